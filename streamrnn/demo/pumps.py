"""Water pumps behind control valves, simulated: what their sensors say, ten times a second.

Each pump is a loop of its own: an operator and a controller ask for a valve position (demand), the valve goes
there as fast as it can, the flow follows, and with it pressure, motor current, heat and vibration. Loads,
the pressure of the network behind the valve, the air and the fouling of the pipes change by themselves. The
units are alike but not the same. It is a time lapse, so that there is something to be seen: water and valves
move as they do, but motors and bearings warm up in seconds, and loads change more often than most do.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.model.parts import Channel

MACHINES = tuple(f"pump-{number}" for number in range(1, 7))
PERIOD_S = 0.1
CHANNELS = (
    Channel("demand", "%"),
    Channel("valve", "%"),
    Channel("flow", "m3/h"),
    Channel("pressure", "bar"),
    Channel("current", "A"),
    Channel("motor_temp", "degC"),
    Channel("bearing_temp", "degC"),
    Channel("vibration", "mm/s"),
)
_NOISE = np.array([0.05, 0.05, 0.03, 0.012, 0.025, 0.03, 0.03, 0.02])  # standard deviations of the sensors

# What wanders: the air's temperature, fouling, pressure of the network, the controller's demand. Seconds that
# each remembers, and by how much it moves.
_MEMORY_S = np.array([[400.0], [900.0], [20.0], [8.0]])
_SIZE = np.array([[2.0], [0.15], [0.25], [7.0]])  # K, share, bar, %
_LOAD_EVERY_S, _LOAD, _LOAD_RANGE = 40.0, (58.0, 14.0), (35.0, 78.0)  # %
_RANGEABILITY = 50.0  # of an equal-percentage valve
_DEAD_BAND = 0.1  # %
_SUCTION_BAR, _STARVED_BAR = 0.5, 1.3  # above the atmosphere; what is missing at the inlet when it is starved
_RATED_A = 9.0
_SETTLING_STEPS = 1000


class _Unit(NamedTuple):
    """What tells one pump from another, (n,) each."""

    head: np.ndarray  # bar at no flow
    droop: np.ndarray  # bar per (m3/h)^2 that the pump loses
    pipe: np.ndarray  # and the pipe
    kvs: np.ndarray  # m3/h through the open valve at 1 bar
    best_flow: np.ndarray  # m3/h of the best efficiency
    no_load: np.ndarray  # A
    heat: np.ndarray  # K of the motor at the rated current
    friction: np.ndarray  # K of the bearing
    air: np.ndarray  # degC
    calm_s: np.ndarray  # of a change of demand
    travel: np.ndarray  # %/s of the valve at most


def _make_units(count: int) -> _Unit:
    """Unit k is the same in every simulation; those beyond MACHINES are like the first again."""
    usual = np.array([[6.0, 0.0022, 0.0011, 40.0, 25.0, 4.0, 45.0, 12.0, 24.0, 1.5, 10.0]])
    spread = np.array([[0.05, 0.1, 0.2, 0.1, 0.05, 0.05, 0.1, 0.2, 0.12, 0.2, 0.2]])
    own = [np.random.default_rng(unit).uniform(-1, 1, usual.size) for unit in range(len(MACHINES))]
    units = usual * (1 + spread * np.array(own))
    return _Unit(*units[np.arange(count) % len(MACHINES)].T)


class Pumps:
    """``count`` pumps, from the moment on that they are warm; ``seed`` says what happens to them.

    ``stuck``, ``worn`` and ``starved``, (count,) from 0 to 1, are what can be wrong with a pump: its valve,
    its bearing, its inlet.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._random = random = np.random.default_rng(seed)
        self._unit = _make_units(count)
        self.stuck, self.worn, self.starved = np.zeros((3, count))
        self._keep = np.exp(-PERIOD_S / _MEMORY_S)
        self._kick = _SIZE * np.sqrt(1 - self._keep**2)
        self._wander = _SIZE * random.standard_normal((len(_SIZE), count))
        self._asked = random.uniform(*_LOAD_RANGE, count)  # the load that the operator wants, %
        self._load, self._demand, self._valve = np.tile(self._asked, (3, 1))  # %
        self._speed = np.zeros(count)  # of the demand, %/s
        self._flow = np.full(count, 15.0)  # m3/h
        self._motor, self._bearing = np.full(count, 55.0), np.full(count, 48.0)  # degC
        self._shake = np.ones(count)  # mm/s
        for _ in range(_SETTLING_STEPS):
            self.step()

    def step(self) -> np.ndarray:
        """What the sensors say after another PERIOD_S, (count, channels) float32."""
        self._wander = self._keep * self._wander + self._kick * self._normal(len(self._wander))
        self._ask()
        self._move_valve()
        pressure, current, cavitating = self._pump()
        self._warm_up(current)
        self._vibrate(cavitating)
        told = (self._demand, self._valve, self._flow, pressure, current)
        exact = np.stack([*told, self._motor, self._bearing, self._shake], axis=1)
        return (exact + _NOISE * self._normal(len(_NOISE)).T).astype(np.float32)

    def _normal(self, rows: int) -> np.ndarray:
        return self._random.standard_normal((rows, self._flow.size))

    def _ask(self) -> None:
        """Every now and then the operator wants another load; the set-point goes there smoothly.

        The smoothing is critically damped, x'' = (goal - x) / s^2 - 2 x' / s.
        """
        chance, wanted = self._random.random(self._flow.size), self._normal(1)[0]
        wanted = np.clip(_LOAD[0] + _LOAD[1] * wanted, *_LOAD_RANGE)
        self._asked = np.where(chance < PERIOD_S / _LOAD_EVERY_S, wanted, self._asked)
        self._load += PERIOD_S / 5.0 * (self._asked - self._load)
        goal, calm = self._load + self._wander[3], self._unit.calm_s
        self._speed += PERIOD_S * ((goal - self._demand) / calm**2 - 2 * self._speed / calm)
        self._demand += PERIOD_S * self._speed

    def _move_valve(self) -> None:
        """The positioner follows the demand, not faster than its drive, nor for less than its dead band."""
        error = self._demand - self._valve
        travel = self._unit.travel
        speed = np.clip((error - np.clip(error, -_DEAD_BAND, _DEAD_BAND)) / 0.3, -travel, travel)
        self._valve = np.clip(self._valve + PERIOD_S * (1 - self.stuck) * speed, 5.0, 100.0)

    def _pump(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Discharge pressure in bar, motor current in A, and how much the pump cavitates, 0 to 1; (n,) each.

        At its one speed a centrifugal pump loses head with the square of the flow, as a pipe does and a
        valve: Q = Kv sqrt(dp), where Kv = Kvs R^(opening - 1) (IEC 60534-1 and -2-1). The flow nears the one
        at which the losses take up what is raised with a time constant of 0.6 s. A pump cavitates as the
        suction head comes down to what it requires, which rises with the flow (NPSH, ISO 9906), and then
        loses head, unsteadily. Power is Q p over an efficiency of 0.75 (2 q - q^2) at q times the best flow;
        the active current adds to that of no load at right angles.
        """
        unit, share = self._unit, self._flow / self._unit.best_flow
        suction = _SUCTION_BAR - _STARVED_BAR * self.starved
        available, required = 10.2 * (1.0 + suction), 2.0 + 2.0 * share**2
        cavitating = np.clip(1.3 - available / required, 0.0, 1.0)
        head = unit.head * (1 - 0.25 * cavitating * (1 + 0.3 * self._normal(1)[0]))
        lift = head + suction - 2.0 - self._wander[2]
        kv = unit.kvs * _RANGEABILITY ** (self._valve / 100 - 1)
        loss = unit.droop + unit.pipe * np.maximum(1 + self._wander[1], 0.5) + 1 / kv**2
        self._flow += PERIOD_S / 0.6 * (np.sqrt(np.maximum(lift, 0.1) / loss) - self._flow)
        share, raised = self._flow / unit.best_flow, head - unit.droop * self._flow**2
        power = unit.best_flow * raised / (36 * 0.75 * np.maximum(2 - share, 0.3)) * (1 + 0.06 * self.worn)
        return suction + raised, np.hypot(unit.no_load, 1.64 * power), cavitating  # 1.64 A/kW: 400 V, 0.88

    def _warm_up(self, current: np.ndarray) -> None:
        """First-order heat balances: losses grow with the current squared, the air takes what is warmer."""
        unit, air = self._unit, self._unit.air + self._wander[0]
        self._motor += PERIOD_S / 25 * (air + unit.heat * (current / _RATED_A) ** 2 - self._motor)
        warmth = air + unit.friction * (1 + 2 * self.worn) + 0.35 * (self._motor - air)
        self._bearing += PERIOD_S / 10 * (warmth - self._bearing)

    def _vibrate(self, cavitating: np.ndarray) -> None:
        """Root mean square over a third of a second; causes add up in squares, least near the best flow."""
        off = 3.0 * (self._flow / self._unit.best_flow - 0.8)
        size = np.sqrt(0.8 + off**2 + (4.0 * cavitating) ** 2 + (3.5 * self.worn) ** 2)
        self._shake = 0.7 * self._shake + 0.3 * size + 0.02 * self._normal(1)[0]
