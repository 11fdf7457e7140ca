//! The errno tables in `docs/ERRORS.md` are the ones that the loop walks.
//!
//! The one idea: the page holds the rendering of the tables between two marks, and this test compares. When it fails it
//! prints the tables as they should be, to be put between the marks.

use polyloop_core::errno::markdown;

/// The page as it was when this test was built.
const PAGE: &str = include_str!("../../../docs/ERRORS.md");

const BEGIN: &str = "<!-- errno:begin -->\n";
const END: &str = "<!-- errno:end -->";

#[test]
fn the_page_has_the_tables_of_the_code() {
    // Goal: documentation and behaviour are one table. Method: render it and compare with the page, save for blank lines around it.
    let (_, rest) = PAGE.split_once(BEGIN).unwrap();
    let (tables, _) = rest.split_once(END).unwrap();
    let expected = markdown();
    assert!(
        tables.trim() == expected.trim(),
        "docs/ERRORS.md does not have the tables of errno.rs. Between its marks belongs:\n{BEGIN}{expected}{END}"
    );
}
