"""Networks that can stand inside a denoiser."""

from bayes1bit.networks.unet import PatchedUNet

__all__ = ["PatchedUNet"]
