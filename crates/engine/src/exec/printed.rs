//! What the items of a chunk print, bounded together: each keeps its own last part, and the part is smaller the more there
//! is. Otherwise ten thousand items could hand a shard, and its store, ten thousand times what one attempt may.

/// Bytes that are kept of all items of a chunk together.
const KEPT: usize = 8 << 20;
/// What stands in place of the part that a text lacks.
const NOTE: &str = "[the beginning was left out: the items of this chunk printed more than 8 MiB together]\n";

/// The texts of one chunk, as they come.
#[derive(Default)]
pub(crate) struct Printed {
    bytes: usize,
}

impl Printed {
    /// Takes note of a text. Whether there is so much by now that [`fit`] is to be called before more comes.
    pub(crate) fn note(&mut self, text: Option<&String>) -> bool {
        self.bytes += text.map_or(0, String::len);
        let full = self.bytes > 2 * KEPT;
        if full {
            self.bytes = KEPT;
        }
        full
    }
}

/// Cuts the longest texts, so that all together are within bounds.
pub(crate) fn fit<'a>(texts: impl Iterator<Item = &'a mut String>) {
    cut_to(texts.collect(), KEPT);
}

fn cut_to(texts: Vec<&mut String>, kept: usize) {
    let mut lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
    if lengths.iter().sum::<usize>() <= kept {
        return;
    }
    lengths.sort_unstable();
    // What the shorter ones leave over is for the longer ones.
    let (mut rest, mut longest) = (kept, 0);
    for (place, length) in lengths.iter().enumerate() {
        longest = rest / (lengths.len() - place);
        if *length > longest {
            break;
        }
        rest -= length;
    }
    for text in texts.into_iter().filter(|text| text.len() > longest) {
        let over = text.len() - longest.saturating_sub(NOTE.len());
        let end = text.ceil_char_boundary(over);
        text.replace_range(..end, NOTE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_texts_are_cut_and_short_ones_stay() {
        let mut texts = ["short".to_owned(), "é".repeat(5000), "x".repeat(3000) + "end", String::new()];
        cut_to(texts.iter_mut().collect(), 2005);
        assert_eq!((&*texts[0], &*texts[3]), ("short", ""));
        assert!(texts[1].starts_with(NOTE) && texts[1].ends_with("éé") && texts[1].len() <= 1000);
        assert!(texts[2].starts_with(NOTE) && texts[2].ends_with("xend") && texts[2].len() == 1000);
        let before = texts.clone();
        cut_to(texts.iter_mut().collect(), 2005);
        assert_eq!(texts, before, "what fits is left alone");
        cut_to(texts.iter_mut().collect(), 1005);
        assert_eq!(texts[2].matches(NOTE).count(), 1, "said once, however often it is cut");
        assert!(texts[2].ends_with("xend") && texts[2].len() == 500);
    }

    #[test]
    fn room_is_made_now_and_then() {
        let mut printed = Printed::default();
        let text = "x".repeat(KEPT / 4);
        let full: Vec<bool> = (0..14).map(|_| printed.note(Some(&text))).collect();
        assert_eq!(full.iter().filter(|full| **full).count(), 2, "{full:?}");
    }
}
