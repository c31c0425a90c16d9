"""Write the scene that libcamera's virtual camera plays, and the configuration that tells it so.

Usage: python -m tests.picamera2.write_scene PICTURE-FOLDER CONFIGURATION-FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.hal.rig import FPS, LORES, PICTURES, SIZE, scene_jpegs


def main(folder: Path, configuration: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, jpeg in enumerate(scene_jpegs(PICTURES)):
        (folder / f"{number}.jpg").write_bytes(jpeg)
    lines = ['"Virtual0":', "  supported_formats:"]
    for width, height in (SIZE, LORES):
        lines += [f"    - width: {width}", f"      height: {height}", f"      frame_rates: [{FPS}]"]
    lines += ["  frames:", f"    path: {folder.resolve()}/"]
    lines += ['  location: "CameraLocationFront"', '  model: "Virtual camera"']
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
