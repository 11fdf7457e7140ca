//! Columns of text under each other: the first to the left, the others to the right.

/// Rows of cells, the widest of which make the columns.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// What stands before each row.
    indent: usize,
    /// Columns that are texts and so stand to the left, besides the first.
    left: Vec<usize>,
}

impl Table {
    pub(crate) fn new(indent: usize) -> Self {
        Self {
            indent,
            ..Self::default()
        }
    }

    /// Puts a column to the left.
    pub(crate) fn left(mut self, column: usize) -> Self {
        self.left.push(column);
        self
    }

    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The text, a line for each row, without blanks at their ends.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                if column > 0 {
                    line.push_str("  ");
                }
                if column == 0 || self.left.contains(&column) {
                    line.push_str(&format!("{cell:<width$}"));
                } else {
                    line.push_str(&format!("{cell:>width$}"));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        // Goal: alignment counts characters, not bytes. Method: a table with a unit outside of ASCII.
        let mut table = Table::new(1).left(2);
        table.row(["", "time", "words"]);
        table.row(["first", "1 µs", "a"]);
        table.row(["b", "1000 ms", ""]);
        assert_eq!(
            table.text(),
            "           time  words\n first     1 µs  a\n b      1000 ms\n"
        );
    }
}
