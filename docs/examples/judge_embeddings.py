# %% [markdown]
# # Judging someone else's embeddings
# A model of any framework is scored by insightface's protocol: let it embed the images of a verification set, and hand
# over the numbers. Neither Paddle nor a config is needed.

# %%
import subprocess
from pathlib import Path

import cv2
import numpy as np

draw = "ppfacerec demo-data --out faces --num-identities 2 --images-per-identity 2 --num-pairs 200"
subprocess.run(draw.split(), check=True)
subprocess.run(["ppfacerec", "convert", "faces/lfw.bin", "lfw"], check=True)  # a .bin as image files and pairs.txt


# %% [markdown]
# Their model; here a stand-in that looks at the brightness of 8 x 8 squares. Rows 2i and 2i + 1 belong to pair i.
# Where a protocol adds the mirror image's embedding, as insightface's does, add it here.


# %%
def embed(path: Path) -> np.ndarray:
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    squares = [cv2.resize(face, (14, 14), interpolation=cv2.INTER_AREA).ravel() for face in (grey, grey[:, ::-1])]
    return sum(square - square.mean() for square in squares)


pairs = [line.split() for line in Path("lfw/pairs.txt").read_text().splitlines() if not line.startswith("# ")]
embeddings = np.stack([embed(Path("lfw") / image) for left, right, _ in pairs for image in (left, right)])
np.savez("theirs.npz", embeddings=embeddings, is_same=[same == "1" for _, _, same in pairs])

# %%
subprocess.run(["ppfacerec", "eval", "--embeddings", "theirs.npz", "--report"], check=True)
print("output/report/index.html has the ROC, the thresholds with their intervals, and the hardest pairs.")
