"""Gated Cycle FC: the three branches of CycleMLP's mixer, weighted per image, as one sum of matrix products.

Source: CycleMLP (arXiv:2107.10224), section 3.2, and the split attention of Vision Permutator (arXiv:2106.12368),
section 3.3. Shifts and products are linear. So the spatial mean of the branches, from which the weights are made, is
known from sums over the input (:func:`cycle_means`); and the weighted sum of the branches, with the projection behind
it if that pays, is one product per shift with matrices made for each image (:func:`cycle_mix`).
"""

from mlp_dense.ops.cycle_mix.definition import cycle_mix, cycle_mix_reference
from mlp_dense.ops.cycle_mix.means import cycle_means

__all__ = ['cycle_means', 'cycle_mix', 'cycle_mix_reference']
