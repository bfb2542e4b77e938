"""A window that shows a CT volume slice by slice, with the outlines of lungs on it. Z slices, H rows, W columns."""

from dataclasses import dataclass

import numpy as np

from lungct.evaluation.figures import WINDOWS_HU
from lungct.evaluation.metrics import dice
from lungct.scans.geometry import Frame, even_slices

AXIAL, CORONAL = "axial", "coronal"
STYLES = ("outline", "filled", "none")
PAGE = 10  # slices that Page Up and Page Down go
STEPS = {"up": 1, "right": 1, "down": -1, "left": -1, "pageup": PAGE, "pagedown": -PAGE}
PRESETS = {str(number): window for number, window in enumerate(WINDOWS_HU.values(), start=1)}  # by key
KEYS_OF_MATPLOTLIB = ("q", "ctrl+w", "cmd+w", "f", "s", "ctrl+s", "p", "h", "r")  # close, full screen, save, pan, reset
LEFT_BUTTON, RIGHT_BUTTON = 1, 3
HU_PER_PX = 2.0  # of the pointer's way, to one side for the width, upwards for the level
NOT_SCANNED_HU = -1024  # in a gap between slices
FILL_ALPHA = 80  # of 255
LINE_WIDTH, TEXT_SIZE = 1.5, 10  # points


@dataclass(frozen=True)
class Mask:
    """Lungs to show on a CT.

    lung:  (Z, H, W) bool
    parts: drawn in its place: the right and the left lung, where they are known
    """

    name: str
    lung: np.ndarray
    colour: tuple[int, int, int]
    parts: tuple["Mask", ...] = ()


@dataclass(frozen=True)
class Stack:
    """What there is to see.

    scan:  its name
    ct_hu: (Z, H, W), slices from the feet to the head, rows to the back, columns to the patient's left
    frame: where the slices lie; None where that is not known
    names: of the slices' files; empty for a volume
    series_uid: of its DICOM series; empty where that is not known
    """

    scan: str
    ct_hu: np.ndarray
    frame: Frame | None = None
    names: tuple[str, ...] = ()
    reference: Mask | None = None
    predicted: Mask | None = None
    series_uid: str = ""

    @property
    def masks(self) -> list[Mask]:
        """What is drawn, the prediction last: it lies on top."""
        masks = [mask for mask in (self.reference, self.predicted) if mask is not None]
        return [part for mask in masks for part in mask.parts or (mask,)]

    def count(self, plane: str) -> int:
        """How many pictures there are in a plane."""
        return self.ct_hu.shape[0 if plane == AXIAL else 1]

    def cut(self, volume: np.ndarray, plane: str, number: int, blank: float = 0) -> np.ndarray:
        """One picture of a volume (Z, H, W): a slice, or a coronal one with the head at the top and gaps `blank`."""
        if plane == AXIAL:
            return volume[number]
        lines = self.coronal_lines()
        return np.where(lines[:, None] >= 0, volume[lines, number], np.asarray(blank, volume.dtype))

    def coronal_lines(self) -> np.ndarray:
        """The slice of each line of a coronal picture, at equal distances, head first: (lines,) int, -1 in a gap."""
        if self.frame is None:
            return np.arange(len(self.ct_hu))[::-1]
        return even_slices(self.frame.places_mm, self.frame.spacing_mm[0])[0][::-1]

    def aspect(self, plane: str) -> float:
        """Height of a pixel of a picture over its width; 1 where it is not known."""
        if self.frame is None:
            return 1.0
        slice_mm, row_mm, col_mm = self.frame.spacing_mm
        return (row_mm if plane == AXIAL else slice_mm) / col_mm

    def name(self, z: int) -> str:
        """The name of a slice's file, else its number, from 0 on as in those names and in arrays."""
        return self.names[z] if self.names else f"slice {z}"

    def height(self, z: int) -> str:
        """Where a slice lies, nothing where that is not known."""
        return f"  z {self.frame.z_mm[z]:.1f} mm" if self.frame else ""

    def describe(self, plane: str, number: int) -> str:
        """Which scan, which picture of it, and where that lies."""
        if plane == AXIAL:
            what, where = self.name(number), self.height(number)
        else:
            what, where = f"coronal, row {number}", "" if self.frame else "  not to scale: the spacing is not known"
        return f"{self.scan}  {what}  ({number + 1} of {self.count(plane)}){where}"

    def agreement(self, plane: str, number: int) -> str:
        """The Dice of one picture where both masks are there."""
        if self.reference is None or self.predicted is None:
            return ""
        pair = [self.cut(mask.lung, plane, number) for mask in (self.reference, self.predicted)]
        return f"  Dice {dice(*pair):.4f}" if any(part.any() for part in pair) else "  no lung"


class Viewer:
    """A window that shows one picture of a stack at a time; needs a matplotlib with a screen, or the Agg backend."""

    def __init__(self, stack: Stack, window: str = "lung", style: str = "outline"):
        import matplotlib.pyplot as plt  # opens no screen when --save is given

        self.stack, self.style, self.plane = stack, style, AXIAL
        self.window_hu: tuple[float, float] = WINDOWS_HU[window]
        self.numbers = {plane: stack.count(plane) // 2 for plane in (AXIAL, CORONAL)}
        self.drag: tuple[float, float, float, float] | None = None  # x, y, level and width where it began
        self.figure = plt.figure(figsize=(8, 8.8), facecolor="0.12")
        self.axes = self.figure.add_axes((0.02, 0.08, 0.96, 0.84))
        self.drawn: list = []  # the outlines of this picture
        self.slider = None
        self.connect()
        self.show_plane(AXIAL)

    @property
    def number(self) -> int:
        """Of the picture that is shown."""
        return self.numbers[self.plane]

    def connect(self) -> None:
        """Keys and mouse. Matplotlib's own keys are taken away: its o, l, c and arrows do other things."""
        canvas = self.figure.canvas
        if canvas.manager is not None:
            canvas.mpl_disconnect(canvas.manager.key_press_handler_id)
        canvas.mpl_connect("key_press_event", self.press_key)
        canvas.mpl_connect("scroll_event", lambda event: self.go_to(self.number + (1 if event.button == "up" else -1)))
        canvas.mpl_connect("button_press_event", self.start_drag)
        canvas.mpl_connect("motion_notify_event", self.drag_window)
        canvas.mpl_connect("button_release_event", self.end_drag)

    def show_plane(self, plane: str) -> None:
        """Axial or coronal pictures: new axes limits, a new slider, the number of before."""
        self.plane = plane
        picture = self.stack.cut(self.stack.ct_hu, plane, self.number, NOT_SCANNED_HU)
        self.axes.clear()
        self.drawn = []  # cleared, too
        self.axes.set_axis_off()
        self.axes.format_coord = self.value_at
        self.image = self.axes.imshow(picture, cmap="gray", aspect=self.stack.aspect(plane))
        self.fill = self.axes.imshow(np.zeros((*picture.shape, 4), np.uint8), aspect=self.stack.aspect(plane))
        self.axes.set_autoscale_on(False)  # outlines do not move the picture
        for text, x, side in (("R", 0.01, "left"), ("L", 0.99, "right")):
            self.axes.text(
                *(x, 0.5, text),
                transform=self.axes.transAxes,
                ha=side,
                color="white",
                weight="bold",
                bbox={"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 2},
            )
        self.add_legend()
        self.add_slider()
        if self.figure.canvas.toolbar is not None:
            self.figure.canvas.toolbar.update()  # "home" and "back" are of the other plane
        self.update()

    def add_legend(self) -> None:
        """What the colours mean, in a corner."""
        from matplotlib.lines import Line2D

        lines = [Line2D([], [], color=rgb(mask.colour), label=mask.name) for mask in self.stack.masks]
        style = {"loc": "lower left", "labelcolor": "white", "facecolor": "black", "edgecolor": "none"}
        self.legend = self.axes.legend(handles=lines, fontsize=TEXT_SIZE, framealpha=0.6, **style) if lines else None

    def add_slider(self) -> None:
        """A slider for the pictures of this plane, none for a single one."""
        from matplotlib.widgets import Slider

        if self.slider is not None:
            self.slider.disconnect_events()
            self.slider.ax.remove()
            self.slider = None
        total = self.stack.count(self.plane)
        if total < 2:
            return
        axes = self.figure.add_axes((0.12, 0.025, 0.74, 0.03))
        label = "slice" if self.plane == AXIAL else "row"
        self.slider = Slider(axes, label, 0, total - 1, valinit=self.number, valstep=1, valfmt="%d")
        for text in (self.slider.label, self.slider.valtext):
            text.set_color("white")
        self.slider.on_changed(lambda value: self.go_to(round(value)))

    def value_at(self, x: float, y: float) -> str:
        """Slice, row and column, from 0 on, and HU under the cursor."""
        col, line = round(x), round(y)
        height, width = self.image.get_array().shape
        if not (0 <= line < height and 0 <= col < width):
            return ""
        z, row = (self.number, line) if self.plane == AXIAL else (int(self.stack.coronal_lines()[line]), self.number)
        if z < 0:
            return "no slice here"
        return f"slice {z}  row {row}  column {col}  {self.stack.ct_hu[z, row, col]} HU"

    def go_to(self, number: int) -> None:
        """Show another picture, not past the ends."""
        number = min(max(number, 0), self.stack.count(self.plane) - 1)
        if number != self.number:
            self.numbers[self.plane] = number
            self.update()

    def press_key(self, event) -> None:
        """The keys of image_test.py."""
        if event.key in STEPS:
            self.go_to(self.number + STEPS[event.key])
        elif event.key in ("home", "end"):
            self.go_to(0 if event.key == "home" else self.stack.count(self.plane) - 1)
        elif event.key in PRESETS:
            self.window_hu = PRESETS[event.key]
            self.update()
        elif event.key == "o":
            self.style = STYLES[(STYLES.index(self.style) + 1) % len(STYLES)]
            self.update()
        elif event.key == "c":
            self.show_plane(CORONAL if self.plane == AXIAL else AXIAL)
        elif event.key in KEYS_OF_MATPLOTLIB:
            from matplotlib.backend_bases import key_press_handler

            key_press_handler(event, self.figure.canvas, self.figure.canvas.toolbar)

    def start_drag(self, event) -> None:
        """A button goes down on the picture, and no tool of the tool bar is at work."""
        toolbar = self.figure.canvas.toolbar
        is_free = toolbar is None or not toolbar.mode
        if event.inaxes is self.axes and event.button in (LEFT_BUTTON, RIGHT_BUTTON) and is_free:
            low, high = self.window_hu
            self.drag = (event.x, event.y, (low + high) / 2, high - low)

    def drag_window(self, event) -> None:
        """To the right: a wider window; upwards: brighter, which is a lower level."""
        if self.drag is None:
            return
        x, y, level, width = self.drag
        width = max(1.0, width + HU_PER_PX * (event.x - x))
        level -= HU_PER_PX * (event.y - y)
        self.window_hu = (level - width / 2, level + width / 2)
        self.update()

    def end_drag(self, _event) -> None:
        """The button goes up."""
        self.drag = None

    def describe_window(self) -> str:
        """Level and width in HU, and the name of the display window where they are those of one."""
        low, high = self.window_hu
        name = next((f"{name} window, " for name, window in WINDOWS_HU.items() if window == self.window_hu), "")
        return f"{name}level {(low + high) / 2:.0f}, width {high - low:.0f} HU"

    def draw_masks(self) -> None:
        """Outlines as lines, which stay thin when the picture is enlarged, or a tint."""
        for lines in self.drawn:
            lines.remove()
        self.drawn = []
        tint = np.zeros((*self.image.get_array().shape, 4), np.uint8)
        for mask in self.stack.masks if self.style != "none" else []:
            lung = self.stack.cut(mask.lung, self.plane, self.number)
            if self.style == "filled":
                tint[lung] = (*mask.colour, FILL_ALPHA)
            elif lung.any() and not lung.all():
                line = {"colors": [rgb(mask.colour)], "linewidths": LINE_WIDTH}
                self.drawn.append(self.axes.contour(lung, levels=[0.5], **line))
        self.fill.set_data(tint)
        if self.legend is not None:
            self.legend.set_visible(self.style != "none")

    def update(self) -> None:
        """Show the picture as it is now; the window's title says the same as the one above the picture."""
        self.image.set_data(self.stack.cut(self.stack.ct_hu, self.plane, self.number, NOT_SCANNED_HU))
        self.image.set_clim(*self.window_hu)
        self.draw_masks()
        if self.slider is not None and round(self.slider.val) != self.number:
            self.slider.set_val(self.number)
        place = self.stack.describe(self.plane, self.number)
        view = self.describe_window() + self.stack.agreement(self.plane, self.number)
        self.axes.set_title(f"{place}\n{view}", color="white", fontsize=TEXT_SIZE)
        if self.figure.canvas.manager is not None:
            self.figure.canvas.manager.set_window_title(f"{place}  {view}")
        self.figure.canvas.draw_idle()


def rgb(colour: tuple[int, int, int]) -> tuple[float, ...]:
    """A colour as matplotlib takes it."""
    return tuple(part / 255 for part in colour)
