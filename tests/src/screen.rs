//! What the demo and the benchmark print: phases with their durations, and one line that moves.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the moving line changes on a terminal, and elsewhere, where every
/// change is a line of its own.
const MOVES_EVERY: Duration = Duration::from_millis(200);
const PRINTS_EVERY: Duration = Duration::from_secs(2);

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";
/// To the start of the line, and all of it away.
const AGAIN: &str = "\r\x1b[K";

#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    colours: bool,
    phase: Instant,
    moved: Option<Instant>,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    #[must_use]
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none();
        Self { terminal, colours, phase: Instant::now(), moved: None }
    }

    /// A plain line.
    pub fn say(&mut self, text: &str) {
        self.line(text);
    }

    /// A phase begins; `text` stands there until it is done.
    pub fn begin(&mut self, text: &str) {
        self.phase = Instant::now();
        if self.terminal {
            let text = self.paint(DIM, &format!("· {text} …"));
            self.draw(&text);
        }
    }

    /// The phase is done.
    pub fn done(&mut self, text: &str) {
        let (tick, took) = (self.paint(GREEN, "✓"), self.phase.elapsed().as_secs_f64());
        let took = self.paint(DIM, &format!("{took:6.1} s"));
        let padding = " ".repeat(58_usize.saturating_sub(text.chars().count()));
        self.line(&format!("{tick} {text}{padding}{took}"));
    }

    /// The end, and a good one.
    pub fn verdict(&mut self, text: &str) {
        let tick = self.paint(GREEN, "✓");
        self.line(&format!("{tick} {text}"));
    }

    pub fn failed(&mut self, text: &str) {
        let cross = self.paint(RED, "✗");
        self.line(&format!("{cross} {text}"));
    }

    /// Shows how it goes, if the last time is long enough ago.
    pub fn progress(&mut self, text: &str) {
        let every = if self.terminal { MOVES_EVERY } else { PRINTS_EVERY };
        if self.moved.is_some_and(|moved| moved.elapsed() < every) {
            return;
        }
        self.moved = Some(Instant::now());
        if self.terminal { self.draw(&format!("  {text}")) } else { self.line(&format!("  {text}")) }
    }

    fn draw(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A terminal that is gone is no reason to stop before all is cleaned up.
        let _ = write!(out, "{AGAIN}{text}").and_then(|()| out.flush());
    }

    fn line(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = if self.terminal { writeln!(out, "{AGAIN}{text}") } else { writeln!(out, "{text}") };
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!([0, 12, 999, 1000, 123_456, 1_234_567].map(grouped), ["0", "12", "999", "1,000", "123,456", "1,234,567"]);
    }
}
