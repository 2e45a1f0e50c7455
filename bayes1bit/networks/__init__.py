"""Networks that can stand inside a denoiser, in full precision and in bits."""

from bayes1bit.networks.adm import ADMUNet
from bayes1bit.networks.bidiffsr import BIDiffSR
from bayes1bit.networks.bidiffsr_parts import CPDown, CPUp, CSFusion
from bayes1bit.networks.binary_units import (
    BBCU,
    BINARIZERS,
    BNN,
    BIDiffSRUnit,
    BinaryUnit,
    DoReFa,
    IRNet,
    PackedTensors,
    ReActNet,
    XNORNet,
    anneal,
)
from bayes1bit.networks.bit_unit import BitUnit
from bayes1bit.networks.bitunet import BitUNet
from bayes1bit.networks.compiled import compile_network
from bayes1bit.networks.counting import Counts, Shares, count, measure_shares
from bayes1bit.networks.pack import pack, packable
from bayes1bit.networks.sr3 import SR3UNet
from bayes1bit.networks.time_aware import RPReLU, TaA, TaR
from bayes1bit.networks.unet import PatchedUNet

__all__ = [
    "BBCU",
    "BINARIZERS",
    "BNN",
    "ADMUNet",
    "BIDiffSR",
    "BIDiffSRUnit",
    "BinaryUnit",
    "BitUNet",
    "BitUnit",
    "CPDown",
    "CPUp",
    "CSFusion",
    "Counts",
    "DoReFa",
    "IRNet",
    "PackedTensors",
    "PatchedUNet",
    "RPReLU",
    "ReActNet",
    "SR3UNet",
    "Shares",
    "TaA",
    "TaR",
    "XNORNet",
    "anneal",
    "compile_network",
    "count",
    "measure_shares",
    "pack",
    "packable",
]
