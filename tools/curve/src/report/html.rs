//! The page: text, tables and pictures put together, with nothing that comes from elsewhere.

use std::fmt::Write as _;

use super::plot::Chart;

/// A part of the report: what it shows, what it says, and the figures in figures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// Names its file and its place in the page: letters and dashes.
    pub id: &'static str,
    /// Its heading.
    pub title: String,
    /// What to see in it, in sentences.
    pub says: Vec<String>,
    /// Its pictures.
    pub charts: Vec<Chart>,
    /// Its figures.
    pub table: Table,
}

/// Rows under a head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Names of the columns, with units.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns and no rows yet.
    #[must_use]
    pub fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    fn html(&self) -> String {
        let row = |cells: &[String], tag: &str| -> String {
            let cells = cells
                .iter()
                .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let rows: String = self.rows.iter().map(|cells| row(cells, "td")).collect();
        format!(
            "<div class=\"scroll\"><table>\n<thead>{}</thead>\n<tbody>{rows}</tbody></table></div>\n",
            row(&self.head, "th")
        )
    }
}

impl Figure {
    pub(super) fn html(&self) -> String {
        let mut html = format!(
            "<section class=\"figure\" id=\"{}\">\n<h2>{}</h2>\n",
            self.id,
            escaped(&self.title)
        );
        for chart in &self.charts {
            // The labels stand there once more for who cannot see them, and for the test that looks for them.
            let (x, y) = (escaped(&chart.x.label), escaped(&chart.y.label));
            let _ = writeln!(
                html,
                "<div class=\"picture\" role=\"img\" aria-label=\"{title}: {y} by {x}; figures in the table below\" data-x=\"{x}\" \
                 data-y=\"{y}\"><div class=\"wide\">{}</div><div class=\"narrow\">{}</div></div>",
                chart.svg(WIDE),
                chart.svg(NARROW),
                title = escaped(&self.title),
            );
        }
        for text in &self.says {
            html += &paragraph(text);
        }
        if !self.table.rows.is_empty() {
            html += &self.table.html();
        }
        html + "</section>\n"
    }

    /// Each picture as a file of its own: name and text, on white, as it is seen anywhere.
    #[must_use]
    pub fn files(&self) -> Vec<(String, String)> {
        let file = |(index, chart): (usize, &Chart)| {
            let number = if index == 0 {
                String::new()
            } else {
                format!("-{}", index + 1)
            };
            let svg = chart
                .svg(WIDE)
                .replacen("<svg ", "<svg style=\"background:#ffffff\" ", 1);
            (format!("{}{number}.svg", self.id), svg)
        };
        self.charts.iter().enumerate().map(file).collect()
    }
}

/// A paragraph.
pub(super) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escaped(text))
}

/// What must be seen before any figure.
pub(super) fn loud(title: &str, text: &str) -> String {
    format!(
        "<div class=\"loud\"><strong>{}</strong> {}</div>\n",
        escaped(title),
        escaped(text)
    )
}

/// Text as it was typed or said.
pub(super) fn verbatim(title: &str, text: &str) -> String {
    format!(
        "<details><summary>{}</summary><pre>{}</pre></details>\n",
        escaped(title),
        escaped(text)
    )
}

/// A section of a table alone.
pub(super) fn section(title: &str, table: &Table) -> String {
    format!("<h2>{}</h2>\n{}", escaped(title), table.html())
}

/// The whole page around `body`.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n",
        title = escaped(title)
    )
}

/// Safe as text and within quotes.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            c => safe.push(c),
        }
    }
    safe
}

/// Of a picture on a desk and on paper.
const WIDE: u32 = 860;

/// Of a picture on a phone, where the same letters must be read.
const NARROW: u32 = 360;

const STYLE: &str = include_str!("style.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_program_said_becomes_markup() {
        // Goal: texts of subjects and servers are shown, not run; by one that tries, in each place.
        let bad = "<script>alert(\"x\")</script>";
        let mut figure = Figure {
            id: "x",
            title: bad.into(),
            says: vec![bad.into()],
            table: Table::new(&[bad]),
            ..Figure::default()
        };
        figure.table.rows.push(vec![bad.into()]);
        let html = page(
            bad,
            &(figure.html() + &loud(bad, bad) + &verbatim(bad, bad)),
        );
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&quot;x&quot;)"));
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        // Goal: no address is fetched; by looking for what would.
        let html = page("x", "");
        for word in ["src=", "href=", "url(", "@import"] {
            assert!(!html.contains(word), "{word}");
        }
    }
}
