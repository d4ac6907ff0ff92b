//! Text to tokens, each with its place.

use super::error::TextError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    pub(super) fn error(self, problem: impl Into<String>) -> TextError {
        TextError { line: self.line, column: self.column, problem: problem.into() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Name(&'a str),
    /// Without quotes, escapes resolved.
    String(Vec<u8>),
    /// A number is the value of no field, and is read to say so.
    Number,
    Symbol(char),
    End,
}

impl Token<'_> {
    /// How errors name it. What a string holds may be a secret.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Name(name) => format!("`{}`", name.chars().take(60).collect::<String>()),
            Self::String(_) => "a string".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::End => "the end of the text".to_owned(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
    place: Place,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // Some editors write a byte order mark.
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest, place: Place { line: 1, column: 1 } }
    }

    pub(super) fn next(&mut self) -> Result<(Place, Token<'a>), TextError> {
        self.skip_blank();
        let place = self.place;
        let Some(first) = self.rest.chars().next() else { return Ok((place, Token::End)) };
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => Token::Name(self.word()),
            '0'..='9' | '.' | '-' | '+' => {
                self.bump();
                self.word();
                Token::Number
            }
            '"' | '\'' => Token::String(self.string(first)?),
            '{' | '}' | '<' | '>' | '[' | ']' | ':' | ',' | ';' | '/' => {
                self.bump();
                Token::Symbol(first)
            }
            other => return Err(place.error(format!("`{}` begins nothing that the text format knows", other.escape_default()))),
        };
        Ok((place, token))
    }

    fn bump(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next()?;
        self.rest = characters.as_str();
        if character == '\n' {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        Some(character)
    }

    fn bump_while(&mut self, mut wanted: impl FnMut(char) -> bool) -> &'a str {
        let start = self.rest;
        while self.rest.chars().next().is_some_and(&mut wanted) {
            self.bump();
        }
        // What is left is the end of what there was.
        &start[..start.len() - self.rest.len()]
    }

    fn skip_blank(&mut self) {
        loop {
            self.bump_while(|character| character.is_ascii_whitespace() || character == '\u{b}');
            if !self.rest.starts_with('#') {
                return;
            }
            self.bump_while(|character| character != '\n');
        }
    }

    fn word(&mut self) -> &'a str {
        self.bump_while(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '.'))
    }

    fn string(&mut self, quote: char) -> Result<Vec<u8>, TextError> {
        let opened = self.place;
        self.bump();
        let mut bytes = Vec::new();
        loop {
            let place = self.place;
            match self.bump() {
                None | Some('\n') => {
                    return Err(opened.error(format!("the string is not closed: expected {quote} before the end of its line")));
                }
                Some('\\') => self.escape(place, &mut bytes)?,
                Some(character) if character == quote => return Ok(bytes),
                Some(character) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escape(&mut self, place: Place, bytes: &mut Vec<u8>) -> Result<(), TextError> {
        let unknown =
            || place.error("unknown escape: expected one of \\n \\r \\t \\a \\b \\f \\v \\? \\\\ \\' \\\" \\ooo \\xhh \\uhhhh \\Uhhhhhhhh");
        let byte = match self.bump().ok_or_else(unknown)? {
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'v' => 0x0b,
            '?' => b'?',
            '\\' => b'\\',
            '\'' => b'\'',
            '"' => b'"',
            'x' | 'X' => {
                let value = self.digits(16, 2).ok_or_else(unknown)?;
                u8::try_from(value).map_err(|_| unknown())?
            }
            first @ '0'..='7' => {
                let rest = self.digits_after(u32::from(first) - u32::from('0'), 8, 2);
                u8::try_from(rest).map_err(|_| place.error("an octal escape above \\377"))?
            }
            width @ ('u' | 'U') => {
                let value = self.exactly(if width == 'u' { 4 } else { 8 }).ok_or_else(unknown)?;
                let character = char::from_u32(value).ok_or_else(|| place.error("an escape that is no character of Unicode"))?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(unknown()),
        };
        bytes.push(byte);
        Ok(())
    }

    /// One to `max` digits.
    fn digits(&mut self, radix: u32, max: usize) -> Option<u32> {
        let first = self.rest.chars().next()?.to_digit(radix)?;
        self.bump();
        Some(self.digits_after(first, radix, max - 1))
    }

    /// The number that `value` becomes with up to `max` digits more, which must not overflow.
    fn digits_after(&mut self, value: u32, radix: u32, max: usize) -> u32 {
        let mut count = 0;
        let digits = self.bump_while(|character| {
            count += 1;
            count <= max && character.is_digit(radix)
        });
        digits.chars().filter_map(|digit| digit.to_digit(radix)).fold(value, |value, digit| value * radix + digit)
    }

    /// A number of exactly `count` hexadecimal digits, 8 at most.
    fn exactly(&mut self, count: usize) -> Option<u32> {
        let mut taken = 0;
        let digits = self.bump_while(|character| {
            taken += 1;
            taken <= count && character.is_ascii_hexdigit()
        });
        (digits.len() == count).then(|| u32::from_str_radix(digits, 16).ok())?
    }
}
