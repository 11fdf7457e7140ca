//! Commands as they would be typed, so that those in a report can be copied into a shell.

/// Words with blanks between, and quotes around those that a shell would take for something else.
#[must_use]
pub fn typed(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_shell_reads_the_same_words() {
        // Goal: what is copied from a report is what was run; by a shell that prints its words, each in a line.
        let words = [
            "printf",
            "%s\\n",
            "--send",
            "PING\\r\\n",
            "a b",
            "",
            "it's",
            "$HOME",
            "x;y",
            "--c=0,2-3",
            "ü",
        ]
        .map(str::to_owned);
        let output = Command::new("sh")
            .arg("-c")
            .arg(typed(&words))
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            printed
                .trim_end_matches('\n')
                .split('\n')
                .collect::<Vec<_>>(),
            words[2..]
        );
        assert_eq!(typed(&words[8..10]), "'x;y' --c=0,2-3");
    }
}
