#!/usr/bin/env python3
"""make.py: writes the pictures beside this file that the vision tests show (needs pillow): plain colours and one large digit."""
import pathlib
from PIL import Image, ImageDraw, ImageFont

HERE = pathlib.Path(__file__).resolve().parent
for name, colour in {"red": (220, 30, 30), "blue": (30, 60, 220)}.items():
    Image.new("RGB", (32, 32), colour).save(HERE / f"{name}.png")
seven = Image.new("RGB", (64, 64), (250, 250, 250))
ImageDraw.Draw(seven).text((32, 32), "7", (0, 0, 0), ImageFont.load_default(56), anchor="mm")
seven.save(HERE / "seven.png")
