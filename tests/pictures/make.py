#!/usr/bin/env python3
"""make.py: writes the pictures beside this file that the vision tests show (needs pillow): plain colours and one large digit."""
import pathlib
from PIL import Image, ImageDraw, ImageFont

HERE = pathlib.Path(__file__).resolve().parent
COLOURS = {"red": (220, 30, 30), "green": (30, 170, 50), "blue": (30, 60, 220), "yellow": (240, 220, 40),
           "orange": (250, 140, 20), "purple": (140, 40, 170), "black": (12, 12, 12), "white": (245, 245, 245)}
for name, colour in COLOURS.items():
    Image.new("RGB", (32, 32), colour).save(HERE / f"{name}.png")
seven = Image.new("RGB", (64, 64), (250, 250, 250))
ImageDraw.Draw(seven).text((32, 32), "7", (0, 0, 0), ImageFont.load_default(56), anchor="mm")
seven.save(HERE / "seven.png")
