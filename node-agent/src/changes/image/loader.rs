//! Boot loaders.

use crate::changes::ChangeError;

/// A boot loader, as far as the running system can configure it. Entries are named as the loader names them.
pub(in crate::changes) trait Loader {
    /// The loader's name, for messages.
    fn name(&self) -> &'static str;

    /// Fails if the loader would not try this entry once and then return to its default, as far as can be seen from
    /// the running system.
    fn check(&self, entry: &str) -> Result<(), ChangeError>;

    /// Returns the configured default, or `None` if the loader chooses by itself.
    fn default_entry(&self) -> Result<Option<String>, ChangeError>;

    fn set_default(&self, entry: Option<&str>) -> Result<(), ChangeError>;

    /// Returns the entry for the next boot only.
    fn next_entry(&self) -> Result<Option<String>, ChangeError>;

    fn set_next(&self, entry: Option<&str>) -> Result<(), ChangeError>;
}
