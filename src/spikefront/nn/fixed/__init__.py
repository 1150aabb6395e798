"""A network in whole numbers: weights of few bits, membranes, thresholds and sums that are integers.

``flow`` finds what each layer's numbers stand for, ``conversion`` chooses units and makes the network, ``layers`` are
what it computes with, ``exactness`` holds that against arithmetic in int32.
"""
