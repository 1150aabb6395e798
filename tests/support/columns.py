"""What the families' code trains by, column by column, as the authors' files, scripts, code and logs were compared.

Rates are those in force (``lr``: of the whole batch), batches are samples a process times processes times accumulated.
"""

from __future__ import annotations

from typing import Any

Column = dict[str, Any]
M9, CIFAR = "rand-m9-mstd0.5-inc1", "rand-m9-n1-mstd0.4-inc1"
FIVE = ["Equalize", "Rotate", "ShearX", "TranslateXRel", "TranslateYRel"]
OF_10 = {"data.mean": [0.4914, 0.4822, 0.4465], "data.std": [0.2470, 0.2435, 0.2616]}
OF_100 = {"data.mean": [0.5071, 0.4867, 0.4408], "data.std": [0.2675, 0.2565, 0.2761]}
EVERY: Column = {  # all pick the best epoch on the test part; no EMA, drop path or clipping beside LAMB's own
    "schedule.name": "cosine",
    "schedule.layer_decay": 1.0,
    "trainer.gradient_clip_val": None,
    "trainer.precision": "16-mixed",
    "trainer.sync_batchnorm": False,
    "callbacks.ema": None,
    "model.drop_path": 0.0,
    "data.val_fraction": 0.0,
    "data.drop_last": True,
    "data.mixup_off_epoch": None,
    "loss._target_": "spikefront.training.CrossEntropy",
}
PICTURES: Column = {"data.repeats": 1, "data.augmentation.hflip": 0.5, "data.augmentation.color_jitter": 0.0}


def trained(T: int, lr: tuple[float, float], decay: float, batch: tuple[int, ...], optimizer: str = "AdamW") -> Column:
    effective = 1
    for factor in batch:
        effective *= factor
    keys = ("model.timesteps", "lr", "schedule.min_lr", "optimizer.weight_decay", "data.batch_size")
    column: Column = dict(zip(keys, (T, *lr, decay, batch[0]), strict=True))
    clipped = {"optimizer.trust_clip": True} if optimizer == "Lamb" else {}
    return column | clipped | {"trainer.effective_batch": effective, "optimizer": optimizer}


def lasts(epochs: int, cooldown: int, warmup: int, warmup_lr: float, interval: str = "epoch") -> Column:
    return {
        "trainer.max_epochs": epochs + cooldown,
        "schedule.cooldown_epochs": cooldown,
        "schedule.warmup_epochs": warmup,
        "schedule.warmup_lr": warmup_lr,
        "schedule.interval": interval,
        "schedule.warmup_prefix": interval == "step",
    }


def mixed(mixup: float, cutmix: float, probability: float) -> Column:
    values = {"mixup_alpha": mixup, "cutmix_alpha": cutmix, "prob": probability, "label_smoothing": 0.1}
    switch = {"data.mixup.switch_prob": 0.5 if cutmix else None}
    return {f"data.mixup.{key}": value for key, value in values.items()} | switch | {"loss.label_smoothing": 0.0}


def seen(policy: str, erasing: float = 0.0, mode: str = "const", crop: Any = (), evaluated: float = 1.0) -> Column:
    scale, ratio = crop or ([0.08, 1.0], None)
    keys = ("auto_augment", "re_prob", "re_mode", "scale", "ratio")
    values = dict(zip(keys, (policy, erasing, mode, scale, ratio), strict=True))
    return PICTURES | {f"data.augmentation.{k}": v for k, v in values.items()} | {"data.crop_pct": evaluated}


WHOLE, SQUARE = ([1.0, 1.0], [3 / 4, 4 / 3]), ([1.0, 1.0], [1.0, 1.0])
IMAGES: Column = {**EVERY, "data.name": "imagenet", "data.image_size": 224, "data.eval_size": None}


def t_imagenet(batch: int, crop: Any) -> Column:
    return {
        **IMAGES,
        **trained(4, (5e-4, 1e-5), 0.05, (batch, 8)),
        **lasts(300, 10, 20, 1e-6),
        **mixed(0.8, 1.0, 1.0),
        **seen(M9, 0.25, crop=crop),
        "seed": 42,
    }


def t_cifar(
    classes: int, lr: float, batch: int, *, epochs: int = 400, warmup_lr: float = 1e-5, own: bool = False
) -> Column:
    return {
        **EVERY,
        **trained(4, (lr, 1e-5), 0.06, (batch,)),
        **lasts(epochs, 10, 20, warmup_lr),
        **mixed(0.5, 0.0, 1.0),
        **seen(CIFAR, 0.25, crop=SQUARE),
        **(OF_100 if own else OF_10),
        "data.name": f"cifar{classes}",
        "data.augmentation.operations": None,
        "seed": 42,
    }


def maxformer_cifar(classes: int, batch: int, mixup: float, warmup_lr: float) -> Column:
    column = t_cifar(classes, 1.5e-3, batch, warmup_lr=warmup_lr, own=classes == 100)
    return {**column, **mixed(mixup, 0.5, 1.0), "data.augmentation.operations": FIVE, "seed": 50425}


def e_loop(
    gestures: bool, lr: float, epochs: int, *, min_lr: float = 1e-5, cutmix: float = 0.0, seed: int = 2021
) -> Column:
    return {
        **EVERY,
        **trained(16, (lr, min_lr), 0.06, (16,)),
        **lasts(epochs, 10, 10, 1e-5),
        **mixed(0.5, cutmix, 0.5),
        **framed(128),
        "data.name": "dvs128_gesture" if gestures else "cifar10_dvs",
        "data.split": None if gestures else "published",
        "data.mixup_off_epoch": 75,
        "data.smooth_after_mixup": True,
        "data.cut_polarities": bool(cutmix),
        "data.augmentation.wide": True,
        "data.augmentation.thirds": False,
        "model.pooling": "1111",
        "model.in_channels": 2,
        "seed": seed,
    }


def framed(side: int) -> Column:
    augmentation = {"flip": 0.5, "roll": 0, "drop": 0.0, "cutout": 0, "nda": False}
    return {
        "data.image_size": side,
        "data.binning.mode": "count",
        "data.binning.rest": True,
        "data.half_inputs": False,
        "model.event_mode": False,
        **{f"data.augmentation.{key}": value for key, value in augmentation.items()},
    }


def m_loop(
    lr: float,
    batch: tuple[int, ...],
    *,
    T: int = 4,
    min_lr: float = 1e-6,
    epochs: int = 200,
    warmup: int = 5,
    optimizer: str = "AdamW",
    seed: int = 0,
    evaluated: float = 224 / 256,
) -> Column:
    return {
        **IMAGES,
        **trained(T, (lr, min_lr), 0.05, batch, optimizer),
        **lasts(epochs, 0, warmup, 0.0, "step"),
        **seen(M9, 0.25, "pixel", evaluated=evaluated),
        "data.mixup": None,
        "loss.label_smoothing": 0.1,
        "seed": seed,
    }


def maxformer(lr: float, min_lr: float, mixup: float, T: int = 4) -> Column:
    column = {**m_loop(lr, (64, 8), T=T, min_lr=min_lr, seed=42), **mixed(mixup, 1.0, 0.5)}
    return {key: value for key, value in column.items() if key != "data.mixup"}


def e_spikeformer() -> Column:
    return m_loop(4.8e-3, (256, 8), T=1, optimizer="Lamb", evaluated=0.9655)  # 224 of 232


def resformer(lr: float, batch: int, policy: str, synced: bool = False) -> Column:
    return {
        **IMAGES,
        **trained(4, (lr, 1e-5), 0.01, (batch, 8)),
        **lasts(320, 0, 3, 1e-5),
        **mixed(0.2, 1.0, 1.0),
        **seen(policy, evaluated=0.95),
        "trainer.sync_batchnorm": synced,
        "seed": 12450,
    }


def resformer_cifar(classes: int) -> Column:
    return {
        **EVERY,
        **trained(4, (5e-4, 1e-5), 0.01, (128,)),
        **lasts(600, 0, 3, 1e-5),
        **mixed(0.5, 0.0, 1.0),
        **seen("rand-m7-n1-mstd0.5-inc1", crop=SQUARE),
        **(OF_100 if classes == 100 else {**OF_10, "data.std": [0.2023, 0.1994, 0.2010]}),
        "data.name": f"cifar{classes}",
        "data.image_size": 32,
        "seed": 12450,
    }


def resformer_events(gestures: bool, lr: float) -> Column:
    return {
        **EVERY,
        **trained(16, (lr, 1e-5), 0.05, (8,)),
        **lasts(300, 0, 3, 1e-5),
        **framed(64),
        "data.name": "dvs128_gesture" if gestures else "cifar10_dvs",
        "data.split": None if gestures else "published",
        "data.mixup": None,
        "data.augmentation.wide": False,
        "data.augmentation.thirds": True,
        "data.binning.total": True,
        "data.binning.antialias": True,
        "model.in_channels": 3,
        "neuron._target_": f"spikefront.nn.{'PLIF' if gestures else 'LIF'}",
        "surrogate._target_": "spikefront.nn.ATan",
        "loss.label_smoothing": 0.0,
        "seed": 12450,
    }


FAMILIES: dict[str, Column] = {
    "spikformer_8_512": t_imagenet(24, WHOLE),
    "spikingformer_8_384": t_imagenet(36, SQUARE),
    "spikingformer_8_512": t_imagenet(36, SQUARE),
    "spikingformer_8_768": t_imagenet(24, SQUARE),
    "spikformer_4_384_cifar10": {**t_cifar(10, 5e-4, 128, epochs=300), "data.augmentation.operations": FIVE},
    "spikingformer_4_384_cifar10": t_cifar(10, 5e-4, 64),
    "spikingformer_4_384_cifar100": t_cifar(100, 5e-4, 64),
    "qkformer_4_384_cifar10": t_cifar(10, 1e-3, 64),
    "qkformer_4_384_cifar100": t_cifar(100, 1e-3, 64),
    "maxformer_4_384_cifar10": maxformer_cifar(10, 128, 0.5, 8e-5),
    "maxformer_4_384_cifar100": maxformer_cifar(100, 64, 0.75, 1e-5),
    "spikformer_2_256_cifar10_dvs": e_loop(False, 1e-3, 96),
    "spikformer_2_256_gesture": e_loop(True, 1e-3, 192),
    "spikingformer_2_256_cifar10_dvs": {**e_loop(False, 1e-3, 96), "model.neurons.attention.tau": 1.5},
    "spikingformer_2_256_gesture": {**e_loop(True, 1e-3, 192), "model.neurons.embedding.tau": 1.5},
    "qkformer_2_256_cifar10_dvs": e_loop(False, 5e-3, 96),
    "qkformer_2_256_gesture": {**e_loop(True, 1e-3, 192, min_lr=2e-5), "model.stages.s2.mlp_ratio": 4.0},
    "maxformer_2_256_cifar10_dvs": e_loop(False, 5e-3, 96, cutmix=0.1, seed=35307),
    "maxformer_2_256_gesture": e_loop(True, 5e-3, 150, cutmix=0.1, seed=1779),
    "qkformer_10_384": m_loop(1.2e-3, (32, 8, 2)),
    "qkformer_10_512": m_loop(1.2e-3, (32, 8, 2)),
    "qkformer_10_768": m_loop(1.35e-3, (24, 8, 3)),
    "maxformer_10_384": maxformer(2.7e-3, 2.5e-6, 0.25),
    "maxformer_10_512": maxformer(2.7e-3, 1e-6, 0.4),
    "maxformer_10_512_t1": maxformer(2.4e-3, 1e-6, 0.4, T=1),
    "maxformer_10_768": maxformer(2.7e-3, 1e-5, 0.8),
    "maxformer_10_768_t1": maxformer(2.4e-3, 1e-5, 0.8, T=1),
    "ms_qkformer_10_384": maxformer(2.7e-3, 2.5e-6, 0.25),
    "ms_qkformer_10_768_t1": maxformer(2.4e-3, 1e-5, 0.8, T=1),
    "metaspikformer_8_512": m_loop(2.4e-3, (128, 8), T=1, warmup=10, optimizer="Lamb"),
    "metaspikformer_8_512_t4": m_loop(1.5e-5, (24, 8), epochs=50, optimizer="Lamb"),
    "e_spikeformer_5m": e_spikeformer(),
    "e_spikeformer_10m": e_spikeformer(),
    "e_spikeformer_19m": e_spikeformer(),
    "spikingresformer_ti": resformer(1e-3, 32, "rand-m7-mstd0.5-inc1"),
    "spikingresformer_s": resformer(1e-3, 32, "rand-m7-mstd0.5-inc1"),
    "spikingresformer_m": resformer(8e-4, 28, M9),
    "spikingresformer_l": resformer(5e-4, 16, "rand-m9-n3-mstd0.5-inc1", synced=True),
    "spikingresformer_cifar10": resformer_cifar(10),
    "spikingresformer_cifar100": resformer_cifar(100),
    "spikingresformer_cifar10_dvs": resformer_events(False, 5e-4),
    "spikingresformer_gesture": resformer_events(True, 1e-4),
}
TRANSFERRED: Column = {"data.image_size": 128, "model.dim": 512, "init.slice": False, "finetune.freeze": []}
FAMILIES |= {
    f"spikingresformer_{name}_transfer": {**FAMILIES[f"spikingresformer_{name}"], **TRANSFERRED, **differs}
    for name, differs in {
        "cifar10": {**trained(4, (1e-4, 1e-5), 0.01, (128,)), **lasts(100, 0, 3, 1e-5), **seen(CIFAR, crop=SQUARE)},
        "cifar100": {**trained(4, (1e-4, 1e-5), 0.01, (128,)), **lasts(150, 0, 3, 1e-5), **seen(CIFAR, crop=SQUARE)},
        "cifar10_dvs": {**trained(10, (4e-5, 1e-5), 0.01, (48,)), **lasts(100, 0, 3, 1e-5)},
        "gesture": {
            **trained(10, (1e-4, 1e-5), 0.05, (48,)),
            **lasts(100, 0, 3, 1e-5),
            "neuron._target_": "spikefront.nn.LIF",
        },
    }.items()
}
BASES = {  # what others stand on, and the recipe that each is
    "timm_imagenet": "spikformer_8_512",
    "timm_cifar": "spikingformer_4_384_cifar10",
    "timm_events": "spikingformer_2_256_gesture",
    "timm_cifar10_dvs": "spikingformer_2_256_cifar10_dvs",
    "mae_imagenet": "qkformer_10_384",
}
STATTEN: dict[str, tuple[str, Column]] = {  # the file of the Spike-driven Transformer, and what differs
    "statten_8_512": ("imagenet_8_512", {"trainer.max_epochs": 210, "lr": 1e-3, "schedule.min_lr": 1.5e-5}),
    "statten_8_768": (
        "imagenet_8_768",
        {"trainer.max_epochs": 210, "data.batch_size": 64, "trainer.effective_batch": 256},
    ),
    "statten_2_512_cifar10": ("cifar10_2_512", {"trainer.max_epochs": 210}),
    "statten_2_512_cifar100": ("cifar100_2_512", {"trainer.max_epochs": 210}),
    **{
        f"statten_2_256_cifar10_dvs{name}": (
            "cifar10_dvs_published",
            {"model.timesteps": t, "data.batch_size": 16, "trainer.effective_batch": 16, "lr": 0.01},
        )
        for name, t in (("", 16), ("_t10", 10))
    },
}
