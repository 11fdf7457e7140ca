//! Pictures: lines, marks with intervals, bars and cells, as SVG.
//!
//! The one idea: a chart is data ([`Chart`]) and is drawn twice, wide and narrow, so that words keep their size on a
//! phone. Colours are a fixed few; the page replaces them by rules of its style sheet where it is dark, so a picture
//! needs no script and stands alone as a file too.
//!
//! Axes are worked out here and not left to the crate: ticks of a logarithmic axis, of percentiles, and of names.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::scale::{Axis, Scale};

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Along.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Upright lines with a word each: a knee, a limit.
    pub markers: Vec<(f64, String)>,
}

/// One thing in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend calls it; nothing for none.
    pub name: String,
    /// Which of the colours.
    pub color: usize,
    /// How it looks.
    pub look: Look,
    /// Its points.
    pub marks: Vec<Mark>,
}

/// How a series looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A line through marks with intervals.
    Line,
    /// A line of a model or an ideal, without marks.
    Dashed,
    /// A bar from zero, this wide in units of the axis, in percent.
    Bar(u8),
    /// Marks alone.
    Marks,
    /// A square of a heat map; `y` is the row and `high` the strength from 0 to 1.
    Cell,
}

/// A point with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// Along.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The generator or the sweep doubts it.
    pub is_hollow: bool,
}

impl Mark {
    /// A point without an interval.
    #[must_use]
    pub fn new(x: f64, y: f64) -> Self {
        Self {
            x,
            y,
            low: y,
            high: y,
            is_hollow: false,
        }
    }
}

type Plane<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

impl Chart {
    /// Draws it, so many pixels wide.
    #[must_use]
    pub fn svg(&self, width: u32) -> String {
        let mut text = String::new();
        let legend = Legend::new(self, width);
        let feet = self.feet(width);
        let height = (width * 5 / 9).clamp(240, 400) + legend.height + feet.height - FEET;
        let drawn = {
            let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
            self.draw(&area, &legend, &feet, (width, height))
        };
        debug_assert!(drawn.is_ok(), "memory takes every picture: {drawn:?}");
        text
    }

    /// Names that have no room beside each other are turned, and the picture grows by their length.
    fn feet(&self, width: u32) -> Feet {
        let Scale::Names(names) = &self.x.scale else {
            return Feet::default();
        };
        let lengths = names.iter().map(|name| name.chars().count() as u32);
        let longest = lengths.max().unwrap_or(0) * LETTER;
        let room = width.saturating_sub(self.y.label_width() + 18) / names.len().max(1) as u32;
        if longest <= room {
            Feet::default()
        } else {
            Feet {
                are_turned: true,
                height: FEET + longest,
            }
        }
    }

    fn draw(&self, area: &Area<'_>, legend: &Legend, feet: &Feet, size: (u32, u32)) -> Drawn {
        let ((x0, x1), (y0, y1)) = (self.x.range(), self.y.range());
        let mut plane = ChartBuilder::on(area)
            .margin_top(legend.height + 10)
            .margin_right(18)
            .x_label_area_size(feet.height)
            .y_label_area_size(self.y.label_width())
            .build_cartesian_2d(x0..x1, y0..y1)?;
        self.axes(area, &plane, feet, size)?;
        for series in &self.series {
            self.series(&mut plane, series)?;
        }
        for (row, (x, word)) in (0..).zip(&self.markers) {
            let x = self.x.place(*x);
            plane.draw_series([PathElement::new(
                vec![(x, y0), (x, y1)],
                INK.stroke_width(1),
            )])?;
            let (px, py) = plane.backend_coord(&(x, y1));
            // Each word in a row of its own, on the side where there is room.
            let (right, _) = plane.backend_coord(&(x1, y0));
            let is_near_the_end = px + word.len() as i32 * LETTER as i32 > right;
            let (at, side) = if is_near_the_end {
                (px - 4, HPos::Right)
            } else {
                (px + 4, HPos::Left)
            };
            write(area, word, (at, py + 2 + row * 14), side, VPos::Top)?;
        }
        legend.draw(area)?;
        area.present()?;
        Ok(())
    }

    fn axes(
        &self,
        area: &Area<'_>,
        plane: &Plane<'_>,
        feet: &Feet,
        (width, height): (u32, u32),
    ) -> Drawn {
        let ((x0, x1), (y0, y1)) = (self.x.range(), self.y.range());
        let (left, bottom) = plane.backend_coord(&(x0, y0));
        let (right, top) = plane.backend_coord(&(x1, y1));
        for (y, word) in self.y.ticks(usize::MAX) {
            let (_, py) = plane.backend_coord(&(x0, y));
            area.draw(&PathElement::new(vec![(left, py), (right, py)], GRID))?;
            write(area, &word, (left - 6, py), HPos::Right, VPos::Center)?;
        }
        let room = usize::try_from((right - left) / 44).unwrap_or(2).max(2);
        for (x, word) in self.x.ticks(room) {
            let (px, _) = plane.backend_coord(&(x, y0));
            area.draw(&PathElement::new(vec![(px, bottom), (px, bottom + 4)], INK))?;
            if !matches!(self.x.scale, Scale::Names(_)) {
                area.draw(&PathElement::new(vec![(px, bottom), (px, top)], GRID))?;
            }
            if feet.are_turned {
                let turned = style(HPos::Right, VPos::Center).transform(FontTransform::Rotate270);
                area.draw(&Text::new(word, (px, bottom + 8), turned))?;
            } else {
                write(area, &word, (px, bottom + 8), HPos::Center, VPos::Top)?;
            }
        }
        area.draw(&PathElement::new(
            vec![(left, top), (left, bottom), (right, bottom)],
            INK,
        ))?;
        let (middle, foot) = ((left + right) / 2, height as i32 - 4);
        write(
            area,
            &self.x.label,
            (middle, foot),
            HPos::Center,
            VPos::Bottom,
        )?;
        let turned = style(HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
        let at = (2, (top + bottom) / 2);
        debug_assert!(width > 0, "a picture has a width");
        area.draw(&Text::new(self.y.label.clone(), at, turned))?;
        Ok(())
    }

    fn series(&self, plane: &mut Plane<'_>, series: &Series) -> Drawn {
        let color = COLORS[series.color % COLORS.len()];
        let place = |mark: &Mark, y: f64| (self.x.place(mark.x), self.y.place(y));
        let line: Vec<(f64, f64)> = series
            .marks
            .iter()
            .map(|mark| place(mark, mark.y))
            .collect();
        match series.look {
            Look::Line => {
                plane.draw_series(LineSeries::new(line.clone(), color.stroke_width(2)))?;
            }
            Look::Dashed => {
                plane.draw_series(DashedLineSeries::new(line, 6, 4, color.stroke_width(1)))?;
                return Ok(());
            }
            Look::Marks => {}
            Look::Bar(width) => {
                let half = f64::from(width) / 200.0;
                let bars = line.iter().zip(&series.marks).map(|((x, y), mark)| {
                    let strength = if mark.is_hollow { 0.25 } else { 0.8 };
                    let corners = [(x - half, self.y.range().0), (x + half, *y)];
                    Rectangle::new(corners, color.mix(strength).filled())
                });
                plane.draw_series(bars)?;
            }
            Look::Cell => {
                let cells = line.iter().zip(&series.marks).map(|((x, y), mark)| {
                    let corners = [(x - 0.48, y - 0.48), (x + 0.48, y + 0.48)];
                    Rectangle::new(corners, color.mix(0.1 + 0.8 * mark.high).filled())
                });
                plane.draw_series(cells)?;
                return Ok(());
            }
        }
        let intervals = series.marks.iter().filter(|mark| mark.low < mark.high);
        plane.draw_series(intervals.map(|mark| {
            let ends = vec![place(mark, mark.low), place(mark, mark.high)];
            PathElement::new(ends, INK.stroke_width(1))
        }))?;
        if !matches!(series.look, Look::Bar(_)) {
            plane.draw_series(line.iter().zip(&series.marks).map(|(at, mark)| {
                let style = if mark.is_hollow {
                    color.stroke_width(2)
                } else {
                    color.filled()
                };
                Circle::new(*at, 4, style)
            }))?;
        }
        Ok(())
    }
}

/// The words under a picture.
struct Feet {
    are_turned: bool,
    height: u32,
}

impl Default for Feet {
    fn default() -> Self {
        Self {
            are_turned: false,
            height: FEET,
        }
    }
}

/// Names beside their colours, above the picture, in as many rows as they need.
struct Legend {
    /// Corner, colour (nothing for the rest of a name that takes more than one row), and words.
    places: Vec<(i32, i32, Option<usize>, String)>,
    height: u32,
}

impl Legend {
    fn new(chart: &Chart, width: u32) -> Self {
        let (mut x, mut y) = (8, 8);
        let mut places = Vec::new();
        let letters = (width.saturating_sub(40) / LETTER) as usize;
        for series in chart.series.iter().filter(|series| !series.name.is_empty()) {
            let mut color = Some(series.color);
            for line in wrapped(&series.name, letters) {
                let length = 24 + line.chars().count() as i32 * LETTER as i32;
                if x > 8 && (color.is_none() || x + length > width as i32) {
                    (x, y) = (8, y + 18);
                }
                places.push((x, y, color.take(), line));
                x += length + 8;
            }
        }
        let height = if places.is_empty() { 0 } else { y as u32 + 14 };
        Self { places, height }
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        for (x, y, color, name) in &self.places {
            if let Some(color) = color {
                let color = COLORS[color % COLORS.len()];
                let square = [(*x, *y), (x + 10, y + 10)];
                area.draw(&Rectangle::new(square, color.filled()))?;
            }
            write(area, name, (x + 16, y + 5), HPos::Left, VPos::Center)?;
        }
        Ok(())
    }
}

/// Breaks a text at blanks into lines of so many letters; a longer word has a line of its own.
fn wrapped(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn style(horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    ("sans-serif", FONT)
        .into_font()
        .color(&INK)
        .pos(Pos::new(horizontal, vertical))
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), horizontal: HPos, vertical: VPos) -> Drawn {
    area.draw(&Text::new(text.to_owned(), at, style(horizontal, vertical)))?;
    Ok(())
}

/// The crate divides it by 1.24 for an SVG, so these are letters of 12 pixels.
const FONT: u32 = 15;

/// Pixels that a letter takes, with some to spare: fonts differ, and a picture is drawn before one is chosen.
const LETTER: u32 = 7;

/// Pixels under a picture for its ticks and the name of its axis.
const FEET: u32 = 46;

/// Words and axes; `report/style.css` knows it by its figure, as all of these.
const INK: RGBColor = RGBColor(0x1c, 0x1c, 0x22);
const GRID: RGBColor = RGBColor(0xdc, 0xdc, 0xe2);

/// Told apart by people who see few colours, and on both backgrounds (after Okabe and Ito).
pub const COLORS: [RGBColor; 8] = [
    RGBColor(0x00, 0x62, 0xa8),
    RGBColor(0xc2, 0x4a, 0x00),
    RGBColor(0x00, 0x7a, 0x5a),
    RGBColor(0x9b, 0x3f, 0x7d),
    RGBColor(0x8a, 0x6d, 0x00),
    RGBColor(0x2f, 0x86, 0xb5),
    RGBColor(0x6b, 0x6b, 0x75),
    RGBColor(0x5b, 0x3b, 0xb0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_drawn_with_words_marks_and_colours() {
        // Goal: what is asked for is in the picture, in both widths, and the style sheet knows its colours.
        let mark = |x: f64, is_hollow| Mark {
            low: x * 9.0,
            high: x * 11.0,
            is_hollow,
            ..Mark::new(x, x * 10.0)
        };
        let series = |look| Series {
            name: "ours & theirs".into(),
            color: 0,
            look,
            marks: vec![mark(1.0, false), mark(2.0, true), mark(4.0, false)],
        };
        let chart = Chart {
            x: Axis::new("loops", Scale::Log, [1.0, 4.0]),
            y: Axis::new("requests/s", Scale::Linear, [10.0, 44.0]),
            series: vec![
                series(Look::Line),
                series(Look::Dashed),
                series(Look::Bar(40)),
            ],
            markers: vec![(2.0, "knee".into())],
        };
        let css = include_str!("style.css");
        for width in [340, 760] {
            let svg = chart.svg(width);
            for word in [
                "<svg",
                "loops",
                "requests/s",
                "knee",
                "ours &amp; theirs",
                "<circle",
            ] {
                assert!(svg.contains(word), "{word} is not in {svg}");
            }
            assert!(svg.contains("fill=\"none\""), "no hollow mark: {svg}");
            for attribute in svg.split("=\"#").skip(1) {
                let color = &attribute[..6];
                assert!(
                    css.contains(&format!("#{color}\"")),
                    "{color} is not in the style sheet"
                );
            }
        }
    }
}
