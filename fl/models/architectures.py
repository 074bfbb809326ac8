"""Models by name. Each is a function from the shape of one example and the number of classes to a module.

Images are float32 (N, C, H, W) in [0, 1], of shape (C, H, W). Text is int64 (N, T), of shape (T,): the words
are 0..classes-1, and the class is the word that follows. All give logits, (N, classes). The first line of a
model's docstring says what it is; numbers of parameters are for ten classes unless a line says otherwise.
Initial weights are torch's own unless a docstring says otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
import torch
from torch import nn

from fl.data.examples import OWN, Shape
from fl.mistyped import nearest
from fl.models.batchnorm import BatchNorm2d

Size = Annotated[int, msgspec.Meta(ge=1, le=65_536)]


class ModelError(ValueError):
    """A model, its file or its vector is not what it should be."""


class Centred(nn.Module):
    """Images in [0, 1] to [-1, 1]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x - 1


class Standardised(nn.Module):
    """Colour images in [0, 1], each channel less ImageNet's mean and divided by ImageNet's deviation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Made here: float buffers of a model are sent and averaged with its weights.
        mean = torch.tensor([0.485, 0.456, 0.406], dtype=x.dtype, device=x.device)
        deviation = torch.tensor([0.229, 0.224, 0.225], dtype=x.dtype, device=x.device)
        return (x - mean[:, None, None]) / deviation[:, None, None]


def _large_enough(shape: Shape, side: int, name: str) -> Shape:
    _, height, width = shape
    if min(height, width) < side:
        raise ModelError(f"{name} is for images of at least {side} x {side} pixels, not {height} x {width}")
    return shape


def cnn(shape: Shape, classes: int) -> nn.Module:
    """Two 3 x 3 convolutions and a linear layer: 9,930 parameters at 1 x 8 x 8, 20,490 at 1 x 28 x 28.

    Source: none, made for this project.

    Inputs are centred.
    """
    channels, height, width = _large_enough(shape, 2, "cnn")
    # Of 8 x 8 pixels, none can be spared before the strokes are seen.
    early = 2 if min(height, width) >= 16 else 1
    return nn.Sequential(
        Centred(),
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(early),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // early // 2) * (width // early // 2), classes),
    )


def mlp(shape: Shape, classes: int) -> nn.Module:
    """One hidden layer of 64, ReLU: 4,810 parameters at 1 x 8 x 8, 50,890 at 1 x 28 x 28.

    Source: none, made for this project.

    Inputs are centred.
    """
    return nn.Sequential(
        Centred(), nn.Flatten(), nn.Linear(math.prod(shape), 64), nn.ReLU(), nn.Linear(64, classes)
    )


def logistic(shape: Shape, classes: int) -> nn.Module:
    """Multinomial logistic regression, one linear layer: 650 parameters at 1 x 8 x 8, 7,850 at 1 x 28 x 28.

    Source: Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


def mlp_200(shape: Shape, classes: int) -> nn.Module:
    """McMahan's 2NN, two hidden layers of 200, ReLU: 199,210 parameters at 1 x 28 x 28.

    Source: McMahan et al., AISTATS 2017, section 3.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), 200),
        nn.ReLU(),
        nn.Linear(200, 200),
        nn.ReLU(),
        nn.Linear(200, classes),
    )


def mlp_1000(shape: Shape, classes: int) -> nn.Module:
    """One hidden layer of 1,000, ReLU: 795,010 parameters at 1 x 28 x 28.

    Source: Marchand et al., SRATTA, ICML 2023, section 5.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 1000), nn.ReLU(), nn.Linear(1000, classes))


def _pooled(channels: int, filters: int, kernel: int, *norm: nn.Module, **options: Any) -> list[nn.Module]:
    """A convolution, its norm if any, ReLU, and the largest of 2 x 2."""
    return [nn.Conv2d(channels, filters, kernel, **options), *norm, nn.ReLU(), nn.MaxPool2d(2)]


def mcmahan_cnn(shape: Shape, classes: int) -> nn.Module:
    """McMahan's CNN, two 5 x 5 convolutions and a hidden layer of 512: 1,663,370 parameters at 1 x 28 x 28.

    Source: McMahan et al., AISTATS 2017, section 3.

    The convolutions keep the size: only so does the published number of parameters come out.
    """
    channels, height, width = _large_enough(shape, 4, "mcmahan-cnn")
    return nn.Sequential(
        *_pooled(channels, 32, 5, padding=2),
        *_pooled(32, 64, 5, padding=2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 512),
        nn.ReLU(),
        nn.Linear(512, classes),
    )


def _sigmoid_lenet(shape: Shape, classes: int, strides: tuple[int, ...]) -> nn.Module:
    """5 x 5 convolutions of 12 channels with these strides and a linear layer, drawn from U(-0.5, 0.5)."""
    channels, height, width = shape
    layers: list[nn.Module] = []
    for stride in strides:
        layers += [nn.Conv2d(channels, 12, 5, stride=stride, padding=2), nn.Sigmoid()]
        channels, height, width = 12, math.ceil(height / stride), math.ceil(width / stride)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * height * width, classes))
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return model


def lenet_zhu(shape: Shape, classes: int) -> nn.Module:
    """A LeNet of sigmoids, easily inverted: 85,036 parameters at 3 x 32 x 32 and 100 classes.

    Source: Zhu et al., Deep Leakage from Gradients, NeurIPS 2019, section 4, the code released with it.

    Three 5 x 5 convolutions of 12 channels, strides 2, 2, 1, sigmoid. Weights and biases from U(-0.5, 0.5).
    """
    return _sigmoid_lenet(shape, classes, strides=(2, 2, 1))


def lenet_4conv(shape: Shape, classes: int) -> nn.Module:
    """The LeNet of sigmoids of the attack from patterned seeds: 17,038 parameters at 1 x 28 x 28.

    Source: Wei et al., Evaluating Client Privacy Leakages (CPL), ESORICS 2020, the code released with it.

    Four 5 x 5 convolutions of 12 channels, strides 2, 2, 1, 1, sigmoid; 588 numbers reach the linear layer of
    a 28 x 28 image, 768 that of a 32 x 32 one. Weights and biases from U(-0.5, 0.5).
    """
    return _sigmoid_lenet(shape, classes, strides=(2, 2, 1, 1))


def tolpegin_fmnist(shape: Shape, classes: int) -> nn.Module:
    """Two 5 x 5 convolutions with BatchNorm and a linear layer: 29,034 parameters at 1 x 28 x 28.

    Source: Tolpegin et al., Data Poisoning Attacks, ESORICS 2020, the code released with it.
    """
    channels, height, width = _large_enough(shape, 4, "tolpegin-fmnist")
    return nn.Sequential(
        *_pooled(channels, 16, 5, BatchNorm2d(16), padding=2),
        *_pooled(16, 32, 5, BatchNorm2d(32), padding=2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), classes),
    )


def tolpegin_cifar10(shape: Shape, classes: int) -> nn.Module:
    """Six 3 x 3 convolutions with BatchNorm and two linear layers: 551,466 parameters at 3 x 32 x 32.

    Source: Tolpegin et al., Data Poisoning Attacks, ESORICS 2020, the code released with it.

    Inputs are standardised. As in the source BatchNorm follows ReLU, and nothing stands between the linear
    layers. The source's softmax before a loss that takes its own is left out: these are logits.
    """
    channels, height, width = _large_enough(shape, 8, "tolpegin-cifar10")
    if channels != 3:
        raise ModelError(f"tolpegin-cifar10 is for images of 3 channels, not {channels}: try tolpegin-fmnist")
    layers: list[nn.Module] = [Standardised()]
    for filters in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), BatchNorm2d(filters)]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(128 * (height // 8) * (width // 8), 128),
        nn.Linear(128, classes),
    )


def fed_cdp(shape: Shape, classes: int) -> nn.Module:
    """Two 3 x 3 convolutions and a linear layer, none with a bias: 34,720 parameters at 1 x 28 x 28.

    Source: Wei et al., Gradient-Leakage Resilient Federated Learning, ICDCS 2021, the code released with it.

    Convolutions without padding and Glorot's uniform initial weights, Keras' defaults. Keras applies dropout
    only to a model called with training=True, which the released code never does: its dropout is left out.
    """
    channels, height, width = _large_enough(shape, 10, "fed-cdp")
    model = nn.Sequential(
        *_pooled(channels, 32, 3, bias=False),
        *_pooled(32, 64, 3, bias=False),
        nn.Flatten(),
        nn.Linear(64 * (((height - 2) // 2 - 2) // 2) * (((width - 2) // 2 - 2) // 2), classes, bias=False),
    )
    for parameter in model.parameters():
        nn.init.xavier_uniform_(parameter)
    return model


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al., CVPR 2016, figure 2), GroupNorm of 2 groups."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(2, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(2, width),
        )
        self.shortcut = nn.Sequential()
        if (channels, stride) != (width, 1):
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.GroupNorm(2, width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18(shape: Shape, classes: int) -> nn.Module:
    """ResNet-18 with GroupNorm of 2 groups for small images: 11,220,132 parameters at 100 classes.

    Source: Hsieh et al., ICML 2020, section 5; Reddi et al., ICLR 2021, appendix C; He et al., CVPR 2016.

    What is usual at 32 x 32: a 3 x 3 convolution of stride 1 comes first, and no pooling. Inputs are centred.
    """
    layers: list[nn.Module] = [
        Centred(),
        nn.Conv2d(shape[0], 64, 3, padding=1, bias=False),
        nn.GroupNorm(2, 64),
        nn.ReLU(),
    ]
    before = 64
    for width in (64, 128, 256, 512):
        layers += [Residual(before, width, stride=width // before), Residual(width, width, stride=1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


class GRU(nn.Module):
    """A recurrent net over embedded words: x, (N, T) int64 in 0..words-1, to logits (N, words).

    torch.nn.GRU, which does the same, does not work inside torch.func.vmap.
    """

    def __init__(self, words: int, embedded: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedded)
        self.input = nn.Linear(embedded, 3 * hidden)
        self.state = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, words)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inputs = self.input(self.embedding(x))  # (N, T, 3 * hidden): reset, update, new
        h = inputs.new_zeros(len(x), self.state.in_features)
        for t in range(x.shape[1]):
            reset_x, update_x, new_x = inputs[:, t].chunk(3, dim=1)
            reset_h, update_h, new_h = self.state(h).chunk(3, dim=1)
            update = torch.sigmoid(update_x + update_h)
            new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
            h = (1 - update) * new + update * h
        logits: torch.Tensor = self.output(h)
        return logits


def gru(_shape: Shape, classes: int) -> nn.Module:
    """Next word by a GRU of 64 over embeddings of 32: 115,816 parameters at 1,000 words.

    Source: Cho et al., EMNLP 2014, section 2.3, with the reset gate behind the matrix as torch.nn.GRU has it.
    """
    return GRU(classes, embedded=32, hidden=64)


class BagOfWords(nn.Module):
    """Sum of embedded words, a linear layer: x, (N, T) int64 in 0..words-1, to logits (N, words)."""

    def __init__(self, words: int, embedded: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedded)
        self.output = nn.Linear(embedded, words)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(self.embedding(x).sum(dim=1))
        return logits


def bag_of_words(_shape: Shape, classes: int) -> nn.Module:
    """Next word by the sum of embeddings of 32, a linear layer: 65,000 parameters at 1,000 words.

    Source: Melis et al., IEEE S&P 2019, section 4.1: the gradient of the embeddings names the words.
    """
    return BagOfWords(classes, embedded=32)


Architecture = Callable[[Shape, int], nn.Module]
FOR_IMAGES: dict[str, Architecture] = {
    "cnn": cnn,
    "mlp": mlp,
    "logistic": logistic,
    "mlp-200": mlp_200,
    "mlp-1000": mlp_1000,
    "mcmahan-cnn": mcmahan_cnn,
    "lenet-zhu": lenet_zhu,
    "lenet-4conv": lenet_4conv,
    "tolpegin-fmnist": tolpegin_fmnist,
    "tolpegin-cifar10": tolpegin_cifar10,
    "fed-cdp": fed_cdp,
    "resnet18": resnet18,
}
FOR_TEXT: dict[str, Architecture] = {"gru": gru, "bag-of-words": bag_of_words}
MODELS = FOR_IMAGES | FOR_TEXT
Models = Mapping[str, Architecture]
"""Of those there are, which may be built: MODELS, or the one of a task of one's own (fl/own.py)."""


_OF_A_TASK = re.compile(OWN + "[0-9a-f]{64}")


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is needed to build a model: written into its file, sent to clients.

    model: a name in MODELS;  shape: (C, H, W) of one image, (T,) of one text. Of a task of one's own model is
    "task:" and the SHA-256 of its file in hexadecimal, and shape that of one of its examples.
    """

    model: str
    shape: Annotated[tuple[Size, ...], msgspec.Meta(min_length=1, max_length=3)]
    classes: Size

    def __post_init__(self) -> None:
        if self.own:
            return
        if self.model not in MODELS:
            near = nearest(self.model, MODELS)
            raise ModelError(f"no model {self.model!r}: there are {', '.join(MODELS)}{near}")
        for examples, length, models in (("images", 3, FOR_IMAGES), ("text", 1, FOR_TEXT)):
            if len(self.shape) == length and self.model not in models:
                raise ModelError(f"{self.model} is not for {examples}: there are {', '.join(models)}")
        if len(self.shape) not in (1, 3):
            raise ModelError(f"an example is an image (C, H, W) or a text (T,), not {self.shape}")

    @property
    def own(self) -> bool:
        """Whether it is of a task of one's own."""
        return _OF_A_TASK.fullmatch(self.model) is not None


def build(name: str, shape: Shape, classes: int, seed: int, models: Models = MODELS) -> nn.Module:
    """A model on the CPU, its initial weights drawn from `seed`; torch's global generators stay as they were.

    Raises: ModelError for an unknown name, examples that are not for this model, images that are too small;
    TaskError as a task of one's own does.
    """
    description = Description(name, shape, classes)
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs' generators as well, and nobody puts those back.
        torch.default_generator.manual_seed(seed)
        return models[description.model](description.shape, description.classes)


def unset(description: Description, models: Models = MODELS) -> nn.Module:
    """The model before its weights are put in: of MODELS shapes alone, on the device "meta", so that whoever
    sent the description decides nothing about memory; of a task of one's own, whose code is one's own and may
    look at what it makes, one like any other.
    """
    if description.own:
        return build(description.model, description.shape, description.classes, 0, models)
    with torch.device("meta"):
        return models[description.model](description.shape, description.classes)
