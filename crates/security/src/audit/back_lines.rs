//! A file's lines, last first.

use std::io::{self, Read, Seek, SeekFrom};

use super::verify::MAX_LINE;

const CHUNK: u64 = 64 * 1024;

pub(super) struct BackLines<R> {
    file: R,
    /// Where `buffer` begins.
    start: u64,
    buffer: Vec<u8>,
}

impl<R: Read + Seek> BackLines<R> {
    /// The lines that end at or before `end`.
    pub(super) fn new(file: R, end: u64) -> Self {
        Self { file, start: end, buffer: Vec::new() }
    }

    /// The next line (with its end, if it has one) and where it begins.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let searched = self.buffer.len().saturating_sub(1);
            if let Some(at) = self.buffer[..searched].iter().rposition(|b| *b == b'\n') {
                let line = self.buffer.split_off(at + 1);
                return Ok(Some((self.start + at as u64 + 1, line)));
            }
            if self.start == 0 || self.buffer.len() > MAX_LINE {
                let line = std::mem::take(&mut self.buffer);
                return Ok((!line.is_empty()).then_some((self.start, line)));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let from = self.start.saturating_sub(CHUNK);
        let mut chunk = vec![0; (self.start - from) as usize];
        self.file.seek(SeekFrom::Start(from))?;
        self.file.read_exact(&mut chunk)?;
        chunk.append(&mut self.buffer);
        self.buffer = chunk;
        self.start = from;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn all(text: &str) -> Vec<(u64, String)> {
        let mut lines = BackLines::new(Cursor::new(text), text.len() as u64);
        let mut found = Vec::new();
        while let Some((at, line)) = lines.next().unwrap() {
            found.push((at, String::from_utf8(line).unwrap()));
        }
        found
    }

    #[test]
    fn gives_every_line_once() {
        assert!(all("").is_empty());
        assert_eq!(all("a\nbb\nc"), [(5, "c".into()), (2, "bb\n".into()), (0, "a\n".into())]);
        assert_eq!(all("\n\nx\n"), [(2, "x\n".into()), (1, "\n".into()), (0, "\n".into())]);
        let long = format!("{}\n{}\n", "a".repeat(200_000), "b".repeat(70_000));
        let found = all(&long);
        assert_eq!(found.iter().map(|l| l.1.len()).collect::<Vec<_>>(), [70_001, 200_001]);
        let huge = "x".repeat(3_000_000);
        assert_eq!(all(&huge).iter().map(|l| l.1.len()).sum::<usize>(), 3_000_000);
    }
}
