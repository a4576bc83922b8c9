"""hmrb: train, evaluate and compare human mesh recovery models, with numbers that say what they are."""
