//! A value of a setting before it is understood, and after: what a flag, a file and `--print-config` have in common.
//!
//! The one idea: one type for reading and for printing, so that what is printed can be read again, and a flag means
//! exactly what the same text means in a file.

use std::fmt::Write as _;

/// A value as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Text: all that a flag can be.
    Text(String),
    /// A whole number, as its decimal digits.
    Integer(String),
    /// `true` or `false`.
    Switch(bool),
    /// Several values.
    List(Vec<Self>),
    /// What no setting is: a fraction, a date, a table. Its kind, with the article.
    Other(&'static str),
}

/// Why a value cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Which item of a list, if it is one.
    pub(crate) item: Option<usize>,
    /// The reason and the way out; the setting's name is put before it.
    pub(crate) why: String,
}

impl Wrong {
    pub(crate) fn new(why: impl ToString) -> Self {
        Self {
            item: None,
            why: why.to_string(),
        }
    }
}

impl Value {
    pub(crate) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    pub(crate) fn integer(number: impl Into<u64>) -> Self {
        Self::Integer(number.into().to_string())
    }

    /// The text of a single value.
    ///
    /// # Errors
    /// When it is a list, a switch or no value at all; `form` says what it should have been.
    pub(crate) fn as_text(&self, form: &str) -> Result<&str, Wrong> {
        match self {
            Self::Text(text) | Self::Integer(text) => Ok(text),
            Self::Switch(_) | Self::List(_) | Self::Other(_) => Err(self.is_not(form)),
        }
    }

    /// Its items; a single value is a list of one.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            single => std::slice::from_ref(single),
        }
    }

    /// Reads each item.
    ///
    /// # Errors
    /// The first item that cannot be read, with its place.
    pub(crate) fn each<T>(
        &self,
        mut read: impl FnMut(&Self) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        let is_list = matches!(self, Self::List(_));
        let read_at = |(index, item)| {
            read(item).map_err(|wrong| Wrong {
                item: is_list.then_some(index),
                ..wrong
            })
        };
        self.items().iter().enumerate().map(read_at).collect()
    }

    /// That this should have been something else.
    pub(crate) fn is_not(&self, form: &str) -> Wrong {
        let kind = match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Switch(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        };
        Wrong::new(format!("it takes {form}, and this is {kind}"))
    }

    /// As TOML.
    pub(crate) fn to_toml(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Integer(digits) => digits.clone(),
            Self::Switch(is_on) => is_on.to_string(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::to_toml).collect();
                format!("[{}]", items.join(", "))
            }
            // Never shown: no setting has such a value.
            Self::Other(kind) => quote(kind),
        }
    }
}

/// A TOML string: literal where that is easier to read, else with escapes.
fn quote(text: &str) -> String {
    let is_plain = |c: char| c >= ' ' && c != '\u{7f}';
    if text.contains('\\') && !text.contains('\'') && text.chars().all(is_plain) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if is_plain(c) => quoted.push(c),
            // Writing to a string cannot fail.
            c => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_as_toml_is_read_again() {
        // Goal: no text is changed by printing it. Method: through a real TOML parser, all ASCII and more.
        let texts = [
            (0..=0x7f_u8).map(char::from).collect::<String>(),
            r"PING\r\n".to_owned(),
            r"it's \x00".to_owned(),
            "ü \u{2028}".to_owned(),
            String::new(),
        ];
        for text in texts {
            let printed = format!("key = {}", Value::text(&text).to_toml());
            let table = toml::de::DeTable::parse(&printed).unwrap();
            let read = table.get_ref()["key"].get_ref().as_str().map(str::to_owned);
            assert_eq!(read, Some(text), "{printed}");
        }
        let list = Value::List(vec![Value::integer(1_u32), Value::Switch(true)]);
        assert_eq!(list.to_toml(), "[1, true]");
    }

    #[test]
    fn a_wrong_item_is_told_with_its_place() {
        // Goal: the column can be found. Method: a list with one number too many.
        let list = Value::List(vec![Value::text("a"), Value::Switch(false)]);
        let wrong = list.each(|item| item.as_text("a name").map(str::to_owned));
        let wrong = wrong.unwrap_err();
        assert_eq!(wrong.item, Some(1));
        assert_eq!(wrong.why, "it takes a name, and this is true or false");
        let wrong = Value::Other("a date").as_text("a time").unwrap_err();
        assert_eq!(wrong, Wrong::new("it takes a time, and this is a date"));
    }
}
