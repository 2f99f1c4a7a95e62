//! What programs on a copy have changed of the live data though they did not reach it.

use crate::supervisor::data::backup::Hand;
use crate::supervisor::data::driver::{Done, Driver as _, Trait};

/// What of the live data they could change so.
pub(super) async fn traits(hand: &Hand<'_>) -> Done<Vec<Trait>> {
    hand.driver().traits(&hand.context).await
}

/// What was changed since, for people; it is put back.
pub(super) async fn undone(hand: &Hand<'_>, before: &[Trait]) -> Option<String> {
    let changed = match traits(hand).await {
        Ok(now) => names(before, &now),
        Err(error) => {
            return Some(format!("what it did to the live database is unknown: {error}"));
        }
    };
    if changed.is_empty() {
        return None;
    }
    let put = hand.driver().put_back(&hand.context, before).await;
    let left = traits(hand).await.map(|now| names(before, &now));
    let end = match (put, left) {
        (Ok(()), Ok(left)) if left.is_empty() => "that was put back".to_owned(),
        (Err(error), _) | (_, Err(error)) => format!("that was not put back: {error}"),
        (_, Ok(left)) => format!("what could not be put back: {left}"),
    };
    Some(format!("a program changed the live database itself, not the copy: {changed}; {end}"))
}

/// What is not as before, or new.
fn names(before: &[Trait], now: &[Trait]) -> String {
    let other = before.iter().filter(|it| !now.contains(it));
    let new = now.iter().filter(|it| !before.iter().any(|other| other.name == it.name));
    other.chain(new).map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")
}
