# %% [markdown]
# # Training on your own data
# From a folder of aligned faces to an evaluated model. Drawn faces stand for yours; takes half a minute on a CPU,
# too short to learn much: the numbers only show that all parts work.

# %%
import subprocess

import ppfacerec

draw = "ppfacerec demo-data --out faces --num-identities 12 --images-per-identity 4 --num-pairs 40"
subprocess.run(draw.split(), check=True)

# %% [markdown]
# `faces/label.txt` lists the training images, a path and a class a line, and `faces/lfw.bin` is a verification set of
# other people. The config says where they are, and what is done to an image before the network sees it.

# %%
transforms = [
    {"DecodeImage": {"to_rgb": True}},
    {"NormalizeImage": {"scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3}},
]
config = {
    "Global": {"output_dir": "output/own", "epochs": 2},
    "Arch": {
        "Backbone": {"name": "MobileFaceNet"},
        "Head": {"name": "ArcMargin", "embedding_size": 128, "margin": 0.1, "scale": 16},  # classes: from the data
    },
    "Loss": {"Train": [{"CELoss": {"weight": 1.0}}]},
    "Optimizer": {
        "name": "AdamW",
        "weight_decay": 0.05,
        "lr": {"name": "Cosine", "learning_rate": 4e-3, "warmup_epoch": 0.5},
    },
    "DataLoader": {
        "Train": {
            "dataset": {
                "name": "ImageNetDataset",
                "image_root": "faces",
                "cls_label_path": "faces/label.txt",
                "transform_ops": transforms,
            },
            "sampler": {"name": "DistributedBatchSampler", "batch_size": 16},
        },
        "Eval": {
            "dataset": {
                "name": "FiveFaceEvalDataset",
                "val_data_path": "faces",
                "val_targets": ["lfw"],
                "transform_ops": transforms,
            },
            "sampler": {"name": "DistributedBatchSampler", "batch_size": 50},
        },
    },
    "Metric": {"Eval": [{"FaceAccOnFiveDatasets": {}}]},
}
evaluations = ppfacerec.train(config, tune_cpu=True)  # twice as fast; as the command line does
for epoch, evaluation in evaluations.items():
    print(epoch, evaluation.average_accuracy)

# %% [markdown]
# `output/own` holds the checkpoints. The best one is a model that embeds and compares faces.

# %%
model = ppfacerec.load("output/own/best_model")
first, second = "faces/images/00000000.jpg", "faces/images/00000001.jpg"  # of one person
print(model.embed([first, second]).shape, model.compare(first, second, threshold=0.3))
