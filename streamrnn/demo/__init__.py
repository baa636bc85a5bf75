"""`streamrnn demo`: simulated pumps, a model of them, and faults to see it by.

The model that comes with this package, ``pumps.safetensors``, was made by

    streamrnn demo --record pumps.csv --seconds 3600 --seed 0
    streamrnn train pumps.csv --stream-column machine -o pumps.safetensors

which takes a minute. What is shown has other seeds, so that the model has not seen it.
"""
