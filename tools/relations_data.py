"""Data made for the relations of input to output: conditions of a pump, load of a plant, a spring's curves.

Everything is simulated from a seed, so that a file is the same wherever it is made.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

Table = dict[str, np.ndarray]  # columns by name, all of one length

CONDITIONS = ("bearing_wear", "cavitation", "ok", "valve_sticking")
SHARES = (0.2, 0.2, 0.4, 0.2)  # of the runs
SENSORS = ("command", "deviation", "flow", "pressure", "vibration")
NOISE = (0.05, 0.2, 0.15, 0.05, 0.15)  # of a sensor
LONGEST = 200  # rows of a run
DELAY = 4  # rows from a high flow to the bubbles

BEGAN = np.datetime64("2024-01-01T00:00:00", "s")  # a Monday
DAY = 24
HOLIDAYS = ("01-01", "05-01", "10-03", "12-24", "12-25", "12-26", "12-31")
WORK = ((0, 5, 7, 11, 12, 13, 17, 19, 23), (0.12, 0.15, 0.9, 1, 0.75, 1, 0.9, 0.3, 0.12))  # hour, share

PARAMETERS = ("force", "stiffness", "damping", "friction")
CURVE = 60  # rows
PERIOD = 0.05  # seconds
FINE = 20  # steps of the simulation to a row


def write_data(folder: Path) -> None:
    """Writes conditions.csv, load.csv, curves.csv, and of each what was held back, into ``folder``.

    curves_test.csv is what vector to sequence is asked, a row to a curve; the curves are in curves_truth.csv.
    """
    curves = make_curves(200, seed=2)
    asked = {name: curves[name][::CURVE] for name in ("run", *PARAMETERS)}
    tables = {
        "conditions": make_conditions(800, seed=1),
        "conditions_test": make_conditions(400, seed=2),
        "load": make_load(0, 731, seed=1),
        "load_test": make_load(731, 365, seed=2),
        "curves": make_curves(500, seed=1),
        "curves_test": asked,
        "curves_truth": curves,
    }
    for name, table in tables.items():
        options = pyarrow.csv.WriteOptions(quoting_style="none")
        pyarrow.csv.write_csv(pa.table(table), folder / f"{name}.csv", options)


def make_conditions(runs: int, seed: int) -> Table:
    """Runs of a pump behind a control valve, 60 to 200 rows at 1 Hz, each in one condition throughout.

    Channel by channel the conditions have much the same mean and deviation. What differs is the course:

    - a healthy valve travels to each command at once, but needs time; a sticking one lets the deviation build
      up, then slips all the way;
    - bubbles (cavitation) follow a high flow after a delay; other pumps may draw some air, but at any time;
    - the vibration of a worn bearing swells to the end; else it is steady, or dies away after the start.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(60, LONGEST + 1, runs)
    there = np.arange(LONGEST)[:, None] < lengths  # (rows, runs)
    condition = rng.choice(len(CONDITIONS), runs, p=SHARES)
    worn, cavitating, _, sticking = (condition == number for number in range(len(CONDITIONS)))
    swinging = _swinging(rng, worn, lengths, there)
    measured = _measure_pumps(rng, cavitating, sticking, swinging)
    begins = BEGAN + np.cumsum(rng.integers(300, 3600, runs))
    times = begins + np.arange(LONGEST)[:, None]

    def rows(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, there.shape).T[there.T]

    sensors = {name: rows(values.round(3)) for name, values in zip(SENSORS, measured, strict=True)}
    return {
        "time": rows(times),
        "run": rows(_names(runs)),
        **sensors,
        "condition": rows(np.array(CONDITIONS)[condition]),
    }


def _swinging(
    rng: np.random.Generator, worn: np.ndarray, lengths: np.ndarray, there: np.ndarray
) -> np.ndarray:
    """What the bearings add to the vibration, (rows, runs): of one strength, but at different times."""
    runs = len(worn)
    course = np.arange(LONGEST)[:, None] / lengths * there  # of a run, 0 to 1
    envelope = np.where(worn, course, np.where(rng.random(runs) < 0.7, 1 - course, 0.6)) ** 1.5
    envelope *= rng.uniform(0.7, 1.0, runs) / np.sqrt((envelope**2).mean(axis=0, where=there))
    turns = np.arange(LONGEST)[:, None] / rng.uniform(8, 20, runs) + rng.random(runs)
    return envelope * np.sin(2 * np.pi * turns)


def _measure_pumps(
    rng: np.random.Generator, cavitating: np.ndarray, sticking: np.ndarray, swinging: np.ndarray
) -> np.ndarray:
    """What the SENSORS say, (sensors, rows, runs)."""
    rows, runs = swinging.shape
    target = command = rng.uniform(35, 75, runs)  # %
    slope = np.ones(runs)  # of the command, % a row
    valve, flow = command + rng.normal(0, 2, runs), 0.3 * command
    band = np.where(sticking, rng.uniform(5, 10, runs), 0.0)  # of deviation, in which the valve stands still
    high = np.zeros((2 * DELAY, runs))  # how high the flow of the last rows was, the newest first
    air, bubbles, demand = np.zeros((3, runs))
    found = np.empty((len(SENSORS), rows, runs))
    for row in range(rows):
        moved = rng.random(runs) < 0.08
        target = np.where(moved, rng.uniform(25, 85, runs), target)
        slope = np.where(moved, np.exp(rng.uniform(np.log(0.5), np.log(20), runs)), slope)
        command = command + np.clip(target - command, -slope, slope)
        deviation = command - valve
        travel = np.where(sticking, 0.95 * deviation, np.clip(0.6 * deviation, -4, 4))
        valve = np.where(np.abs(deviation) > band, valve + travel, valve)
        high = np.roll(high, 1, axis=0)
        high[0] = np.clip((flow - 15) / 1.5, 0, 1)
        drawn = (air == 0) & (rng.random(runs) < 0.03)
        air = np.where(drawn, rng.integers(4, 12, runs), np.maximum(air - 1, 0))
        bubbles = 0.7 * bubbles + 0.36 * np.where(cavitating, high[DELAY:].mean(axis=0), air > 0)
        demand = 0.9 * demand + rng.normal(0, 0.12, runs)
        flow = flow + 0.35 * (0.3 * valve - flow) - 0.5 * bubbles * rng.random(runs)
        pressure = 6 - 0.006 * flow**2 + 0.35 * bubbles * rng.normal(size=runs) + 0.1 * demand
        vibration = 2 + 0.02 * flow + 0.5 * bubbles * rng.random(runs) + swinging[row]
        found[:, row] = command, command - valve, flow + demand, pressure, vibration
    return found + rng.normal(size=found.shape) * np.array(NOISE)[:, None, None]


def make_load(first: int, days: int, seed: int) -> Table:
    """Hourly electric load of a plant in kW, from day ``first`` of 2024 on, with what is known of tomorrow.

    Heating below 14 degC and cooling above 19 (of the building, which lags the weather by some hours)
    depend on whether people are at work; production goes up and down by weeks.
    """
    rng = np.random.default_rng(seed)
    hours = days * DAY
    hour, day = np.arange(hours) % DAY, np.arange(hours) // DAY
    dates = BEGAN.astype("datetime64[D]") + np.arange(first, first + days + 1).astype("timedelta64[D]")
    off = (np.arange(first, first + days + 1) % 7 >= 5) | np.isin([str(date)[5:] for date in dates], HOLIDAYS)
    off |= rng.random(days + 1) < 0.02  # days that the plant takes off
    season = -np.cos(2 * np.pi * (first + np.arange(hours) / DAY - 20) / 365.25)  # least in January
    of_day = np.sin(2 * np.pi * (hour - 9) / DAY)
    temperature = 11 + 10 * season + (3.5 + 1.5 * season) * of_day + _wander(rng, hours, 0.983, 0.7)
    mean = np.append(temperature.reshape(days, DAY).mean(axis=1), temperature[-1])
    promised = mean + rng.normal(0, 0.8, days + 1)
    level = 1 + 0.12 * np.sin(2 * np.pi * (np.arange(days) / 17 + rng.random())) + rng.normal(0, 0.04, days)
    work = np.where(off[day], 0.12, np.interp(hour, *WORK))
    building = temperature.copy()
    for row in range(1, hours):
        building[row] = building[row - 1] + (temperature[row] - building[row - 1]) / 8
    heating = np.maximum(14 - building, 0) * (4 + 6 * work)
    cooling = np.maximum(building - 19, 0) * (2 + 12 * work)
    load = 90 + 260 * work * level[day] + heating + cooling + _wander(rng, hours, 0.85, 5)
    return {
        "time": BEGAN + (first * DAY + np.arange(hours)) * 3600,
        "load": load.round(1),
        "temperature": temperature.round(1),
        "hour": hour,
        "off": off[day].astype(int),
        "off_tomorrow": off[day + 1].astype(int),
        "temperature_tomorrow": promised[day + 1].round(1),
    }


def _wander(rng: np.random.Generator, rows: int, memory: float, deviation: float) -> np.ndarray:
    """An autoregression of order 1, (rows,)."""
    pushes, found = rng.normal(0, deviation, rows), np.empty(rows)
    last = 0.0
    for row in range(rows):
        found[row] = last = memory * last + pushes[row]
    return found


def make_curves(runs: int, seed: int) -> Table:
    """A kilogram at rest on a spring that stiffens, with damping and dry friction, from when a force sets in.

    Parameters in N, N/m, N s/m and N; where it is, in m, every 0.05 s.
    """
    rng = np.random.default_rng(seed)
    force, stiffness = rng.uniform(5, 40, runs).round(2), rng.uniform(20, 120, runs).round(1)
    damping, friction = rng.uniform(0.5, 6, runs).round(2), rng.uniform(0, 4, runs).round(2)
    x, v, step = np.zeros(runs), np.zeros(runs), PERIOD / FINE
    position = np.empty((CURVE, runs))
    for row in range(CURVE):
        for _ in range(FINE):
            push = force - stiffness * x - 60 * x**3 - damping * v
            sliding = np.sign(np.where(v == 0, push, v))
            faster = v + (push - sliding * friction) * step
            # friction can hold what would turn round, but not drive it
            v = np.where((np.sign(faster) != sliding) & (np.abs(push) <= friction), 0.0, faster)
            x = x + v * step
        position[row] = x
    position += rng.normal(0, 0.003, position.shape)

    def rows(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, (CURVE, runs)).T.ravel()

    times = (PERIOD * np.arange(1, CURVE + 1)).round(2)
    parameters = zip(PARAMETERS, (force, stiffness, damping, friction), strict=True)
    return {
        "run": rows(_names(runs)),
        "t": rows(times[:, None]),
        **{name: rows(values) for name, values in parameters},
        "position": rows(position.round(4)),
    }


def _names(runs: int) -> np.ndarray:
    return np.array([f"run-{number:03}" for number in range(1, runs + 1)])
