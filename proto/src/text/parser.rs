//! Tokens to a message.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value};

use super::error::TextError;
use super::lexer::{Lexer, Place, Token};
use crate::reflect;

/// Recursion follows the message's definition, which is not recursive: text
/// cannot nest deeper than the definition does.
pub(super) fn parse(descriptor: MessageDescriptor, text: &str) -> Result<DynamicMessage, TextError> {
    let mut lexer = Lexer::new(text);
    let ahead = lexer.next()?;
    let mut parser = Parser { lexer, ahead };
    let mut message = DynamicMessage::new(descriptor);
    let end = parser.fields(&mut message, None)?;
    match reflect::missing(&message) {
        Some(path) => Err(end.error(format!("`{path}` is missing in this {}", message.descriptor().name()))),
        None => Ok(message),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: (Place, Token<'a>),
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Result<(Place, Token<'a>), TextError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.ahead, next))
    }

    fn is_ahead(&self, symbol: char) -> bool {
        self.ahead.1 == Token::Symbol(symbol)
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, TextError> {
        Err(self.ahead.0.error(format!("expected {expected}, found {}", self.ahead.1.show())))
    }

    /// Fields up to `close`, or the end of the text; returns the place of that.
    fn fields(&mut self, message: &mut DynamicMessage, close: Option<char>) -> Result<Place, TextError> {
        loop {
            match (&self.ahead, close) {
                ((place, Token::End), None) => return Ok(*place),
                ((place, Token::Name(name)), _) => {
                    let field = field(message.descriptor(), name, *place)?;
                    let (place, _) = self.take()?;
                    self.field(message, &field, place)?;
                }
                ((place, Token::Symbol(symbol)), Some(close)) if *symbol == close => {
                    let place = *place;
                    self.take()?;
                    return Ok(place);
                }
                (_, None) => return self.unexpected("the name of a field"),
                (_, Some(close)) => return self.unexpected(&format!("the name of a field, or `{close}`")),
            }
        }
    }

    /// What follows the name of a field, which stands at `place`.
    fn field(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor, place: Place) -> Result<(), TextError> {
        let nested = matches!(field.kind(), Kind::Message(_));
        if self.is_ahead(':') {
            self.take()?;
        } else if !nested {
            return self.unexpected(&format!("`:` after `{}`", field.name()));
        }
        if !field.is_list() {
            if message.has_field(field) {
                return Err(place.error(format!("`{}` is given twice", field.name())));
            }
            let value = self.value(field)?;
            message.set_field(field, value);
        } else {
            let mut items = Vec::new();
            self.items(field, &mut items)?;
            if let Value::List(list) = message.get_field_mut(field) {
                list.append(&mut items);
            }
        }
        if self.is_ahead(',') || self.is_ahead(';') {
            self.take()?;
        }
        Ok(())
    }

    /// One value of a repeated field, or a list of them in brackets.
    fn items(&mut self, field: &FieldDescriptor, items: &mut Vec<Value>) -> Result<(), TextError> {
        if !self.is_ahead('[') {
            items.push(self.value(field)?);
            return Ok(());
        }
        self.take()?;
        if !self.is_ahead(']') {
            items.push(self.value(field)?);
            while self.is_ahead(',') {
                self.take()?;
                items.push(self.value(field)?);
            }
        }
        if !self.is_ahead(']') {
            return self.unexpected("`,` or `]`");
        }
        self.take()?;
        Ok(())
    }

    fn value(&mut self, field: &FieldDescriptor) -> Result<Value, TextError> {
        match field.kind() {
            Kind::String => self.string(field).map(Value::String),
            Kind::Message(descriptor) => self.message(field, descriptor).map(Value::Message),
            _ => Err(self.ahead.0.error(format!("`{}` cannot be given as text", field.name()))),
        }
    }

    /// Strings that follow one another are one.
    fn string(&mut self, field: &FieldDescriptor) -> Result<String, TextError> {
        let place = self.ahead.0;
        if !matches!(self.ahead.1, Token::String(_)) {
            return self.unexpected(&format!("a string in quotes for `{}`", field.name()));
        }
        let mut bytes = Vec::new();
        while let Token::String(part) = &self.ahead.1 {
            bytes.extend_from_slice(part);
            self.take()?;
        }
        String::from_utf8(bytes).map_err(|_| place.error(format!("the string for `{}` is not UTF-8", field.name())))
    }

    fn message(&mut self, field: &FieldDescriptor, descriptor: MessageDescriptor) -> Result<DynamicMessage, TextError> {
        let close = match self.ahead.1 {
            Token::Symbol('{') => '}',
            Token::Symbol('<') => '>',
            _ => return self.unexpected(&format!("`{{` after `{}`", field.name())),
        };
        self.take()?;
        let mut message = DynamicMessage::new(descriptor);
        let closed = self.fields(&mut message, Some(close))?;
        match reflect::missing(&message) {
            Some(path) => Err(closed.error(format!("`{path}` is missing in `{}`", field.name()))),
            None => Ok(message),
        }
    }
}

fn field(message: MessageDescriptor, name: &str, place: Place) -> Result<FieldDescriptor, TextError> {
    message.get_field_by_name(name).ok_or_else(|| {
        let known: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
        let nearest = known.iter().max_by(|a, b| {
            let likeness = |candidate: &str| strsim::jaro_winkler(candidate, name);
            likeness(a).total_cmp(&likeness(b))
        });
        let guess = nearest.filter(|nearest| strsim::jaro_winkler(nearest, name) > 0.7);
        let remedy = match guess {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("it has: {}", known.join(", ")),
        };
        place.error(format!("{} has no field {}; {remedy}", message.name(), Token::Name(name).show()))
    })
}
