//! Reading an objective.
//!
//! The one idea: a condition that nothing or everything meets is a slip of the keyboard, and is refused like one that
//! cannot be read.

use std::str::FromStr;

use super::{Figure, Objective, Relation, Term};

/// A text that is no objective. The message names the condition, the reason and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot search for '{condition}': {reason}")]
pub struct ObjectiveError {
    /// The condition at fault, as typed.
    pub condition: String,
    /// What is wrong with it, and what to write.
    pub reason: String,
}

impl FromStr for Objective {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        let conditions = text.split(',').flat_map(|part| part.split(" and "));
        let terms: Result<Vec<Term>, ObjectiveError> = conditions.map(term).collect();
        Ok(Self { terms: terms? })
    }
}

fn term(condition: &str) -> Result<Term, ObjectiveError> {
    let condition = condition.trim();
    let fail = |reason: String| ObjectiveError {
        condition: condition.to_owned(),
        reason,
    };
    if condition.is_empty() {
        return Err(fail(format!("there is nothing there; {EXAMPLE}")));
    }
    let Some((name, rest)) = condition.split_once('<') else {
        let hint = "put it in quotes, or the shell takes '<' for itself";
        return Err(fail(format!("it has no '<'; {EXAMPLE}, and {hint}")));
    };
    let (relation, limit) = match rest.strip_prefix('=') {
        Some(limit) => (Relation::AtMost, limit.trim()),
        None => (Relation::Below, rest.trim()),
    };
    let name = name.trim();
    let Some(figure) = Figure::ALL.into_iter().find(|figure| figure.name() == name) else {
        let known = Figure::ALL.map(Figure::name).join(", ");
        return Err(fail(format!("'{name}' is no figure; use one of {known}")));
    };
    let limit = match figure {
        Figure::Errors => error_share(limit, relation),
        _ => duration_ns(limit),
    };
    Ok(Term {
        figure,
        relation,
        limit: limit.map_err(fail)?,
    })
}

fn duration_ns(text: &str) -> Result<f64, String> {
    let limit = polyloop_core::units::parse_duration(text).map_err(|error| error.to_string())?;
    match limit.as_nanos() {
        0 => Err("no request takes no time; write a longer one, such as 2ms".to_owned()),
        ns if ns > u128::from(crate::tally::LONGEST_NS) => {
            Err("durations are told apart up to two minutes only; write a shorter one".to_owned())
        }
        ns => Ok(ns as f64),
    }
}

fn error_share(text: &str, relation: Relation) -> Result<f64, String> {
    let Some(number) = text.strip_suffix('%') else {
        return Err(format!("'{text}' has no '%'; write errors<0.1%"));
    };
    let percent = match number.trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => percent,
        _ => {
            return Err(format!(
                "'{text}' is not from 0% to 100%; write errors<0.1%"
            ));
        }
    };
    if percent == 0.0 && relation == Relation::Below {
        return Err("there are never fewer than none; write errors<=0%".to_owned());
    }
    Ok(percent / 100.0)
}

const EXAMPLE: &str = "write for example 'p99<2ms' or 'p99.9<=5ms,errors<0.1%'";
