//! JSON from types.

use std::fmt::{Arguments, Display};
use std::io::{self, Write};

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::{Error, Number};

use super::{FLAT, TAG};

/// Writes values to a file or a text.
pub(super) struct Writer<'a> {
    to: &'a mut dyn Write,
    /// Why the file did not take it.
    pub(super) failed: Option<io::Error>,
    /// How deep the next line is indented; all is one line when absent.
    depth: Option<usize>,
    /// The array or object that is being written has nothing yet.
    is_empty: bool,
    /// The key that the next object begins with, and its value.
    tag: Option<(&'static str, &'static str)>,
    /// The next object's fields stand in the one that is being written.
    is_flat: bool,
}

/// An array or an object that has begun.
pub(super) struct Begun<'w, 'a> {
    writer: &'w mut Writer<'a>,
    end: &'static str,
}

impl<'a> Writer<'a> {
    pub(super) fn new(to: &'a mut dyn Write, is_pretty: bool) -> Self {
        let depth = is_pretty.then_some(0);
        Self { to, failed: None, depth, is_empty: true, tag: None, is_flat: false }
    }

    fn put(&mut self, text: Arguments<'_>) -> Result<(), Error> {
        self.to.write_fmt(text).map_err(|error| {
            let told = Error::custom(&error);
            self.failed = Some(error);
            told
        })
    }

    fn print(&mut self, value: &dyn Display) -> Result<(), Error> {
        self.put(format_args!("{value}"))
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.print(&serde_json::to_string(text)?)
    }

    fn line(&mut self) -> Result<(), Error> {
        match self.depth {
            Some(depth) => self.put(format_args!("\n{:1$}", "", 2 * depth)),
            None => Ok(()),
        }
    }

    fn begin(&mut self, bracket: &str) -> Result<(), Error> {
        self.depth = self.depth.map(|depth| depth + 1);
        self.is_empty = true;
        self.print(&bracket)
    }

    fn item(&mut self) -> Result<(), Error> {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.print(&",")?;
        }
        self.line()
    }

    fn key(&mut self, key: &str) -> Result<(), Error> {
        self.item()?;
        self.text(key)?;
        self.print(&if self.depth.is_some() { ": " } else { ":" })
    }

    fn end(&mut self, brackets: &str) -> Result<(), Error> {
        for bracket in brackets.chars() {
            self.depth = self.depth.map(|depth| depth - 1);
            if !std::mem::replace(&mut self.is_empty, false) {
                self.line()?;
            }
            self.print(&bracket)?;
        }
        Ok(())
    }

    /// Begins an object; what is to end it.
    fn object(&mut self) -> Result<&'static str, Error> {
        let is_flat = std::mem::take(&mut self.is_flat);
        if !is_flat {
            self.begin("{")?;
        }
        if let Some((key, variant)) = self.tag.take() {
            self.key(key)?;
            self.text(variant)?;
        }
        Ok(if is_flat { "" } else { "}" })
    }

    /// Begins a variant with content; what is to end it. A tag comes with the object that is the content.
    fn variant(
        &mut self,
        name: &'static str,
        variant: &'static str,
    ) -> Result<&'static str, Error> {
        if let Some(tag) = name.strip_prefix(TAG) {
            self.tag = Some((tag, variant));
            return Ok("");
        }
        self.begin("{")?;
        self.key(variant)?;
        Ok("}")
    }
}

impl<'w, 'a> Serializer for &'w mut Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Begun<'w, 'a>;
    type SerializeTuple = Begun<'w, 'a>;
    type SerializeTupleStruct = Begun<'w, 'a>;
    type SerializeTupleVariant = Begun<'w, 'a>;
    type SerializeMap = Begun<'w, 'a>;
    type SerializeStruct = Begun<'w, 'a>;
    type SerializeStructVariant = Begun<'w, 'a>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.print(&value)
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.print(&value)
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.print(&value)
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.print(&value)
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        self.print(&value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.print(&value)
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.print(&value)
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.print(&value)
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        self.print(&value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        match Number::from_f64(value) {
            Some(number) => self.print(&number),
            None => self.print(&"null"),
        }
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.print(&"null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.print(&"null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.print(&"null")
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        if !name.starts_with(TAG) {
            return self.text(variant);
        }
        self.variant(name, variant)?;
        let end = self.object()?;
        self.end(end)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let end = self.variant(name, variant)?;
        value.serialize(&mut *self)?;
        self.end(end)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Begun<'w, 'a>, Error> {
        self.begin("[")?;
        Ok(Begun { writer: self, end: "]" })
    }

    fn serialize_tuple(self, _: usize) -> Result<Begun<'w, 'a>, Error> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Begun<'w, 'a>, Error> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Begun<'w, 'a>, Error> {
        self.variant(name, variant)?;
        self.begin("[")?;
        Ok(Begun { writer: self, end: "]}" })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Begun<'w, 'a>, Error> {
        let end = self.object()?;
        Ok(Begun { writer: self, end })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Begun<'w, 'a>, Error> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Begun<'w, 'a>, Error> {
        let has_tag = self.variant(name, variant)?.is_empty();
        let end = self.object()?;
        Ok(Begun { writer: self, end: if has_tag { end } else { "}}" } })
    }
}

impl SerializeMap for Begun<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let key = super::to_value(&key)?;
        let Some(key) = key.as_str() else { return Err(Error::custom("key must be a string")) };
        self.writer.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Error> {
        self.writer.end(self.end)
    }
}

/// The traits of what has fields with names, and of what has items without.
macro_rules! begun {
    (fields: $($fields:ident)*; items: $($items:ident $serialize:ident)*) => {
        $(impl $fields for Begun<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.writer.is_flat = key.starts_with(FLAT);
                if !self.writer.is_flat {
                    self.writer.key(key)?;
                }
                value.serialize(&mut *self.writer)
            }

            fn end(self) -> Result<(), Error> {
                self.writer.end(self.end)
            }
        })*
        $(impl $items for Begun<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn $serialize<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.writer.item()?;
                value.serialize(&mut *self.writer)
            }

            fn end(self) -> Result<(), Error> {
                self.writer.end(self.end)
            }
        })*
    };
}

begun! {
    fields: SerializeStruct SerializeStructVariant;
    items: SerializeSeq serialize_element SerializeTuple serialize_element
        SerializeTupleStruct serialize_field SerializeTupleVariant serialize_field
}
