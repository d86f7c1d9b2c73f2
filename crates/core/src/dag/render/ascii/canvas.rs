//! A grid of lines, with text laid over it.

use super::super::text::columns;

const UP: u8 = 1;
const DOWN: u8 = 2;
const LEFT: u8 = 4;
const RIGHT: u8 = 8;

/// A cell of lines: where they go, and whose they are.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    ways: u8,
    owner: Option<usize>,
    crossed: bool,
}

/// A drawing. Positions are `(column, row)`, counted from the upper left corner.
#[derive(Debug)]
pub(super) struct Canvas {
    width: usize,
    cells: Vec<Cell>,
    texts: Vec<Vec<(usize, String)>>,
    crossings: usize,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            cells: vec![Cell::default(); width * height],
            texts: vec![Vec::new(); height],
            crossings: 0,
        }
    }

    /// A vertical line over whole cells, both rows included.
    pub(super) fn vertical(&mut self, owner: usize, column: usize, rows: std::ops::RangeInclusive<usize>) {
        for row in rows {
            self.add(owner, column, row, UP | DOWN);
        }
    }

    /// A vertical line that ends in the middle of the cell, coming from above.
    pub(super) fn arrive(&mut self, owner: usize, column: usize, row: usize) {
        self.add(owner, column, row, UP);
    }

    /// A vertical line that starts in the middle of the cell, going down.
    pub(super) fn leave(&mut self, owner: usize, column: usize, row: usize) {
        self.add(owner, column, row, DOWN);
    }

    /// A horizontal line between the middles of two cells.
    pub(super) fn horizontal(&mut self, owner: usize, from: usize, to: usize, row: usize) {
        for column in from..=to {
            let left = if column > from { LEFT } else { 0 };
            let right = if column < to { RIGHT } else { 0 };
            self.add(owner, column, row, left | right);
        }
    }

    /// Text over the lines.
    pub(super) fn text(&mut self, column: usize, row: usize, text: String) {
        self.texts[row].push((column, text));
    }

    /// In how many cells a line crosses another.
    pub(super) fn crossings(&self) -> usize {
        self.crossings
    }

    pub(super) fn into_text(mut self) -> String {
        let mut out = String::new();
        for (row, texts) in self.texts.iter_mut().enumerate() {
            texts.sort_by_key(|(column, _)| *column);
            let mut line = String::new();
            let mut column = 0;
            for (start, text) in
                texts.iter().map(|(start, text)| (*start, text.as_str())).chain([(self.width, "")])
            {
                while column < start {
                    line.push(glyph(self.cells[row * self.width + column].ways));
                    column += 1;
                }
                line.push_str(text);
                column += columns(text);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// Where the lines of two owners meet they cross, and the vertical one stays whole: a line that is broken goes
    /// on behind, and whatever branches belongs together.
    fn add(&mut self, owner: usize, column: usize, row: usize, ways: u8) {
        let cell = &mut self.cells[row * self.width + column];
        if cell.crossed {
            return;
        }
        if cell.owner.is_none_or(|before| before == owner) {
            *cell = Cell { ways: cell.ways | ways, owner: Some(owner), crossed: false };
        } else {
            *cell = Cell { ways: UP | DOWN, owner: None, crossed: true };
            self.crossings += 1;
        }
    }
}

fn glyph(ways: u8) -> char {
    const UP_DOWN: u8 = UP | DOWN;
    const LEFT_RIGHT: u8 = LEFT | RIGHT;
    match (ways & UP_DOWN, ways & LEFT_RIGHT) {
        (0, 0) => ' ',
        (0, _) => '─',
        (_, 0) => '│',
        (DOWN, RIGHT) => '╭',
        (DOWN, LEFT) => '╮',
        (UP, RIGHT) => '╰',
        (UP, LEFT) => '╯',
        (UP_DOWN, RIGHT) => '├',
        (UP_DOWN, LEFT) => '┤',
        (DOWN, _) => '┬',
        (UP, _) => '┴',
        _ => '┼',
    }
}
