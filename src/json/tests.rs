use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "tag:is", rename_all = "snake_case")]
enum Tagged {
    Unit,
    Struct {
        a: u8,
    },
    Newtype(Inner),
    Flat {
        b: i64,
        #[serde(rename = "flat:")]
        inner: Inner,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Outer {
    first: bool,
    #[serde(rename = "flat:")]
    tagged: Tagged,
    last: Vec<Plain>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Plain {
    Unit,
    Newtype(i32),
    Tuple(u8, u8),
    Struct { map: BTreeMap<String, Option<u64>> },
}

fn inner() -> Inner {
    Inner { text: "a\"\n\u{1}ü".to_owned(), number: Some(0.00001) }
}

fn plain() -> Vec<Plain> {
    let map = [("a".to_owned(), None), ("b".to_owned(), Some(u64::MAX))].into();
    vec![
        Plain::Unit,
        Plain::Newtype(-1),
        Plain::Tuple(1, 2),
        Plain::Struct { map },
        Plain::Struct { map: BTreeMap::new() },
    ]
}

/// The same, of serde's own attributes.
mod reference {
    use super::*;

    #[derive(Serialize)]
    #[serde(tag = "is", rename_all = "snake_case")]
    pub enum Tagged {
        Unit,
        Struct {
            a: u8,
        },
        Newtype(Inner),
        Flat {
            b: i64,
            #[serde(flatten)]
            inner: Inner,
        },
    }

    #[derive(Serialize)]
    pub struct Outer {
        pub first: bool,
        #[serde(flatten)]
        pub tagged: Tagged,
        pub last: Vec<Plain>,
    }
}

#[track_caller]
fn check(tagged: Tagged, reference: reference::Tagged) {
    let outer = Outer { first: true, tagged, last: plain() };
    let reference = reference::Outer { first: true, tagged: reference, last: plain() };
    let (line, pretty) = (to_vec(&outer).unwrap(), to_vec_pretty(&outer).unwrap());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap();
    assert_eq!(text(&line), serde_json::to_string(&reference).unwrap());
    assert_eq!(text(&pretty), serde_json::to_string_pretty(&reference).unwrap());
    assert_eq!(from_slice::<Outer>(&pretty).unwrap(), outer);
    assert_eq!(to_value(&outer).unwrap(), serde_json::to_value(&reference).unwrap());
}

#[test]
fn tags_and_flat_fields_are_written_and_read_like_those_of_serde() {
    check(Tagged::Unit, reference::Tagged::Unit);
    check(Tagged::Struct { a: 7 }, reference::Tagged::Struct { a: 7 });
    check(Tagged::Newtype(inner()), reference::Tagged::Newtype(inner()));
    let b = i64::MIN;
    check(Tagged::Flat { b, inner: inner() }, reference::Tagged::Flat { b, inner: inner() });
}

#[test]
fn what_is_not_of_the_type_is_an_error_that_says_why() {
    for (text, why) in [
        (r#"{"is":"other"}"#, "unknown variant `other`, expected one of `unit`, `struct`"),
        (r#"{}"#, "missing field `is`"),
        (r#"{"is":3}"#, "invalid type: integer `3`, expected enum Tagged"),
        (r#"[]"#, "invalid type: sequence, expected enum Tagged"),
        (r#"{"is":"struct"}"#, "missing field `a`"),
        (r#"{"is":"struct","a":256}"#, "a: invalid value: integer `256`, expected u8"),
        (r#"{"is":"struct","a":-1}"#, "a: invalid value: integer `-1`, expected u8"),
        (r#"{"is":"struct","a":"1"}"#, "a: invalid type: string \"1\", expected u8"),
        (r#"{"is":"struct","a":1"#, "EOF while parsing an object at line 1 column 20"),
        (r#"{"is":"newtype","text":null}"#, "text: invalid type: null, expected a string"),
    ] {
        let error = from_slice::<Tagged>(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(why), "{text}: {error}");
    }
    let error = from_slice::<Outer>(br#"{"first":true,"is":"struct","a":"","last":[]}"#);
    assert_eq!(error.unwrap_err().to_string(), "a: invalid type: string \"\", expected u8");
    for (text, why) in [
        (r#""Newtype""#, "invalid type: unit variant, expected a variant with content"),
        (r#"{"Struct":{"map":{"b":true}}}"#, "map: b: invalid type: boolean `true`, expected u64"),
        (r#"{"Tuple":[1,2,3]}"#, "invalid length 3, expected fewer elements in array"),
        (r#"{"Unit":null,"Newtype":1}"#, "invalid type: map, expected enum Plain"),
    ] {
        let error = from_slice::<Plain>(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(why), "{text}: {error}");
    }
}

#[test]
fn a_file_that_takes_no_more_says_why() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = to_writer_pretty(&mut Full, &inner()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_key_that_is_no_text_is_refused() {
    let error = to_vec(&BTreeMap::from([(1, 2)])).unwrap_err();
    assert_eq!(error.to_string(), "key must be a string");
}
