//! Exceptions beside the place: `tidy-allow(<rule>): <reason>` in a comment, on the line in question or right above.
//!
//! Only rules that guess can be excepted (`Rule::may_be_waived`). An exception that no longer excepts anything, or
//! gives no reason, is itself a finding, so that they cannot pile up.

use super::finding::{Finding, Rule};

/// The opening, in two pieces, as this file is itself looked at.
const MARKER: &str = concat!("tidy-", "allow(");

/// Takes the excepted findings of one file away, and adds what is wrong with the exceptions.
pub(crate) fn apply(path: &str, text: &str, findings: Vec<Finding>) -> Vec<Finding> {
    let mut waivers: Vec<Waiver> = text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| read(index + 1, line))
        .collect();
    let mut left: Vec<Finding> = findings
        .into_iter()
        .filter(|finding| !is_waived(finding, &mut waivers))
        .collect();
    for waiver in waivers.iter().filter(|waiver| !waiver.used) {
        let what = waiver.fault();
        left.push(Finding::new(path, waiver.line, Rule::Waiver, what));
    }
    left
}

struct Waiver {
    line: usize,
    rule: Option<Rule>,
    has_reason: bool,
    used: bool,
}

impl Waiver {
    fn is_valid(&self) -> bool {
        self.has_reason && self.rule.is_some_and(Rule::may_be_waived)
    }

    const fn fault(&self) -> &'static str {
        match self.rule {
            None => "an exception to a rule that does not exist",
            Some(rule) if !rule.may_be_waived() => "an exception to a rule that has none",
            Some(_) if !self.has_reason => "an exception without a reason",
            Some(_) => "an exception that excepts nothing",
        }
    }
}

/// A name in angle brackets is a description of the form, not a use of it.
fn read(line: usize, text: &str) -> Option<Waiver> {
    let (_, after) = text.split_once(MARKER)?;
    let (name, reason) = after.split_once(')')?;
    if name.starts_with('<') {
        return None;
    }
    let has_reason = reason
        .strip_prefix(':')
        .is_some_and(|reason| reason.trim().len() > 3);
    let rule = Rule::ALL.into_iter().find(|rule| rule.name() == name);
    Some(Waiver {
        line,
        rule,
        has_reason,
        used: false,
    })
}

fn is_waived(finding: &Finding, waivers: &mut [Waiver]) -> bool {
    let fitting = waivers.iter_mut().find(|waiver| {
        waiver.is_valid()
            && waiver.rule == Some(finding.rule)
            && (waiver.line == finding.line || waiver.line + 1 == finding.line)
    });
    match fitting {
        Some(waiver) => {
            waiver.used = true;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(comment: &str, rule: Rule) -> Vec<Rule> {
        let text = format!("// {MARKER}{comment}\nline two\n");
        let finding = Finding::new("a.rs", 2, rule, "x");
        apply("a.rs", &text, vec![finding])
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    /// Goal: a good exception removes the finding below it. Method: the form as documented.
    #[test]
    fn a_reason_beside_the_place_excepts() {
        assert_eq!(judge("fixed-port): only parsed", Rule::FixedPort), []);
    }

    /// Goal: other exceptions change nothing and are told. Method: one of each fault.
    #[test]
    fn bad_exceptions_are_told() {
        for comment in [
            "fixed-port)",
            "fixed-port): ",
            "test-sleep): why",
            "nonsense): why",
        ] {
            let left = judge(comment, Rule::FixedPort);
            assert_eq!(left, [Rule::FixedPort, Rule::Waiver], "{comment}");
        }
        let exact = judge("unsafe-place): because", Rule::UnsafePlace);
        assert_eq!(exact, [Rule::UnsafePlace, Rule::Waiver]);
        assert_eq!(
            judge("<rule>): <reason>", Rule::FixedPort),
            [Rule::FixedPort]
        );
    }
}
