//! Server-sent events (HTML, 9.2.6 "Interpreting an event stream"), as far as chat completions
//! use them: the data of each event. Pure.

/// More than this in one event is no chat completion.
const LONGEST_EVENT: usize = 256 * 1024;

/// An event grew past what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Bytes in, the data of events out.
#[derive(Debug, Default)]
pub(super) struct EventStream {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    after_cr: bool,
    begun: bool,
}

impl EventStream {
    /// Takes the next bytes, cut anywhere, and adds the data of each event that they complete.
    pub(super) fn push(&mut self, bytes: &[u8], events: &mut Vec<String>) -> Result<(), TooLong> {
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => self.line_ended(events),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > LONGEST_EVENT {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    fn line_ended(&mut self, events: &mut Vec<String>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = match std::mem::replace(&mut self.begun, true) {
            false => line.trim_start_matches('\u{feff}'),
            true => &line,
        };
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.has_data) {
                events.push(data);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            if self.has_data {
                self.data.push('\n');
            }
            self.has_data = true;
            self.data.push_str(value.strip_prefix(' ').unwrap_or(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], cut: usize) -> Vec<String> {
        let mut stream = EventStream::default();
        let mut events = Vec::new();
        for piece in bytes.chunks(cut) {
            stream.push(piece, &mut events).unwrap();
        }
        events
    }

    #[test]
    fn events_come_out_the_same_however_the_bytes_are_cut_and_lines_end() {
        let text = "\u{feff}: a comment\ndata: {\"a\":1}\n\nevent: x\ndata:two\ndata: lines ä\nid: 7\n\n\n\ndata\n\n";
        for ending in ["\n", "\r\n", "\r"] {
            let bytes = text.replace('\n', ending).into_bytes();
            for cut in 1..=bytes.len() {
                let expected = ["{\"a\":1}", "two\nlines ä", ""];
                assert_eq!(all(&bytes, cut), expected, "{ending:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn an_event_that_is_not_complete_does_not_come_out() {
        assert!(all(b"data: almost\n", 3).is_empty());
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut stream = EventStream::default();
        let mut events = Vec::new();
        let endless = vec![b'x'; LONGEST_EVENT + 1];
        assert_eq!(stream.push(&endless, &mut events), Err(TooLong));
    }
}
