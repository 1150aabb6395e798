"""A network in whole numbers: weights of few bits, membranes, thresholds and sums that are integers.

``flow`` finds what each layer's numbers stand for, ``conversion`` chooses units and makes the network of
``whole_layers``, ``exactness`` holds that against integer arithmetic, ``keeping`` has it in a file.
"""
