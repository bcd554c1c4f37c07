"""Write one simulated scene as a SigMF Recording, for `heimdall locate`.

python -m examples.scene --network torino --out examples/scene
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Final

from examples.network import NETWORKS
from examples.scenes import FreshScene, fresh_scenes

SEED: Final = 8


def write(scene: FreshScene, stem: Path) -> None:
    """Write the pair of files: `<stem>.sigmf-meta`, which also holds the truth, and `<stem>.sigmf-data`."""
    described = scene.metadata["global"]
    truth = f"Simulated transmitter at latitude {scene.latitude_deg:.5f}, longitude {scene.longitude_deg:.5f}."
    metadata = scene.metadata | {
        "global": described
        | {
            "core:description": f"{described['core:description']} {truth}",
            "core:sha512": hashlib.sha512(scene.body).hexdigest(),
        }
    }
    stem.with_suffix(".sigmf-meta").write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", "utf-8")
    stem.with_suffix(".sigmf-data").write_bytes(scene.body)


def main() -> None:
    """Write a scene of one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="torino")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--datatype", choices=["ci8", "ci16_le"], default="ci8")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "scene")
    arguments = parser.parse_args()
    scene = next(fresh_scenes(NETWORKS[arguments.network], 1, arguments.seed, arguments.datatype))
    write(scene, arguments.out)
    print(f"wrote {arguments.out}.sigmf-meta and .sigmf-data: {scene.metadata['global']['core:description']}")


if __name__ == "__main__":
    main()
