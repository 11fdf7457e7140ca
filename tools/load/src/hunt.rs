use crate::director::Director;
pub(crate) fn hunt(_d: &mut Director) -> anyhow::Result<()> { Ok(()) }
