//! The configuration file as a tree of values that know their lines, so that each refusal can name file, line
//! and key.
//!
//! Only the tree's shape is judged here (known keys, tables that are tables); what a value may be is
//! `values`' business.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::folders::Folders;
use super::keys;

/// The file's text, for counting lines; and the folders that names in it stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct File<'t> {
    pub(super) path: &'t Path,
    pub(super) text: &'t str,
    pub(super) folders: &'t Folders,
}

/// One table of the file; a table that isn't in the file is empty and stands where the file's text starts.
#[derive(Debug)]
pub(super) struct Table<'t> {
    file: File<'t>,
    name: &'static str,
    offset: usize,
    entries: Option<&'t DeTable<'t>>,
}

impl<'t> File<'t> {
    /// The refusal of `key` (empty: the file as a whole) at the octet `offset` of the text.
    pub(super) fn refuse(&self, offset: usize, key: &str, what: String) -> ConfigError {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|&&octet| octet == b'\n').count();
        ConfigError { path: self.path.to_path_buf(), line, key: key.to_owned(), what }
    }

    /// The text as a tree, if it is TOML at all.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'t>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let message = error.message().replace('\n', ", ");
            self.refuse(offset, self.key_near(offset), format!("not TOML: {message}"))
        })
    }

    /// What stands before the `=` of the line at `offset`, if it looks like a key.
    fn key_near(&self, offset: usize) -> &'t str {
        let before = self.text.get(..offset).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |position| position + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        let is_key = key.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_-.".contains(&octet));
        if is_key { key } else { "" }
    }

    /// Refuses the first key, in the order of the file, that is unknown or in the wrong table.
    pub(super) fn check_keys(&self, root: &'t DeTable<'t>) -> Result<(), ConfigError> {
        let mut first: Option<(usize, ConfigError)> = None;
        let mut keep_first = |offset: usize, error: ConfigError| {
            if first.as_ref().is_none_or(|(earlier, _)| offset < *earlier) {
                first = Some((offset, error));
            }
        };
        for (name, value) in root {
            let offset = name.span().start;
            if let Err(error) = self.check_key("", name, value) {
                keep_first(offset, error);
                continue;
            }
            for (_, entries) in entries_of(name.get_ref(), offset, value) {
                for (inner, value) in entries {
                    if let Err(error) = self.check_key(name.get_ref(), inner, value) {
                        keep_first(inner.span().start, error);
                        continue;
                    }
                    let full = full_name(name.get_ref(), inner.get_ref());
                    let within = value.get_ref().as_table().filter(|_| keys::is_table(&full));
                    for (inner, value) in within.into_iter().flatten() {
                        if let Err(error) = self.check_key(&full, inner, value) {
                            keep_first(inner.span().start, error);
                        }
                    }
                }
            }
        }
        first.map_or(Ok(()), |(_, error)| Err(error))
    }

    fn check_key(
        &self,
        table: &str,
        name: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let offset = name.span().start;
        let name = name.get_ref().as_ref();
        let full = full_name(table, name);
        if keys::has_free_keys(table) {
            return Ok(());
        }
        if !keys::is_key(table, name) {
            return Err(self.refuse(offset, &full, keys::where_instead(table, name)));
        }
        if table.is_empty() && keys::is_table(name) && entries_of(name, offset, value).is_empty() {
            let what = format!("is not a table; write [{name}] on a line and its keys below");
            return Err(self.refuse(offset, &full, what));
        }
        if !table.is_empty() && keys::is_table(&full) && value.get_ref().as_table().is_none() {
            let what = format!("is not a table; write [{full}] on a line and its keys below");
            return Err(self.refuse(offset, &full, what));
        }
        Ok(())
    }

    /// The table `name` of `root`, or `root` itself for the empty name.
    pub(super) fn table(&self, root: &'t DeTable<'t>, name: &'static str) -> Table<'t> {
        let file = *self;
        if name.is_empty() {
            return Table { file, name, offset: 0, entries: Some(root) };
        }
        self.tables(root, name).pop().unwrap_or(Table { file, name, offset: 0, entries: None })
    }

    /// The tables `name` of `root`, in their order: several only of a kind that [`is_repeated`].
    pub(super) fn tables(&self, root: &'t DeTable<'t>, name: &'static str) -> Vec<Table<'t>> {
        let Some((key, value)) = root.get_key_value(name) else { return Vec::new() };
        let table = |(offset, entries)| Table { file: *self, name, offset, entries: Some(entries) };
        entries_of(name, key.span().start, value).into_iter().map(table).collect()
    }
}

impl<'t> Table<'t> {
    /// The table `key` within this one, whose full name is `name`; None when the file doesn't have it.
    pub(super) fn table(&self, key: &str, name: &'static str) -> Option<Self> {
        let (key, value) = self.entries?.get_key_value(key)?;
        let entries = value.get_ref().as_table();
        Some(Self { file: self.file, name, offset: key.span().start, entries })
    }

    /// The folders that a name alone is looked up in.
    pub(super) fn folders(&self) -> &'t Folders {
        self.file.folders
    }

    /// The value of `key` as `parse` reads it; None when the file doesn't have the key.
    pub(super) fn read<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&DeValue<'t>) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((name, value)) = self.entries.and_then(|entries| entries.get_key_value(key)) else {
            return Ok(None);
        };
        match parse(value.get_ref()) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(what) => Err(self.file.refuse(name.span().start, &full_name(self.name, key), what)),
        }
    }

    /// The values of the list `key`, at most `count_max`, each as `parse` reads it; a refusal names the line
    /// of the value, not of the key.
    pub(super) fn read_list<T: PartialEq>(
        &self,
        key: &str,
        count_max: usize,
        parse: impl Fn(&DeValue<'t>) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some((name, value)) = self.entries.and_then(|entries| entries.get_key_value(key)) else {
            return Ok(None);
        };
        let full = full_name(self.name, key);
        let Some(items) = value.get_ref().as_array() else {
            return Err(self.file.refuse(
                name.span().start,
                &full,
                "must be a list, as in [\"...\"]".to_owned(),
            ));
        };
        if items.len() > count_max {
            let what = format!("has {} entries; at most {count_max} are allowed", items.len());
            return Err(self.file.refuse(name.span().start, &full, what));
        }
        let mut parsed = Vec::with_capacity(items.len());
        for item in items.iter() {
            let offset = item.span().start;
            let one = parse(item.get_ref()).map_err(|what| self.file.refuse(offset, &full, what))?;
            if parsed.contains(&one) {
                return Err(self.file.refuse(
                    offset,
                    &full,
                    "names the same twice; once is enough".to_owned(),
                ));
            }
            parsed.push(one);
        }
        Ok(Some(parsed))
    }

    /// All keys of a table whose keys are names, at most `count_max`, each as `parse` reads name and value.
    pub(super) fn read_all<T>(
        &self,
        count_max: usize,
        parse: impl Fn(&str, &DeValue<'t>) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let mut parsed = Vec::new();
        for (name, value) in self.entries.into_iter().flatten() {
            let (offset, key) = (name.span().start, name.get_ref().as_ref());
            let refuse = |what| self.file.refuse(offset, &full_name(self.name, key), what);
            if parsed.len() == count_max {
                return Err(refuse(format!("is one too many; at most {count_max} are allowed")));
            }
            parsed.push(parse(key, value.get_ref()).map_err(refuse)?);
        }
        Ok(parsed)
    }

    /// The refusal of `key`, at its line, or at the table's when the file doesn't have it.
    pub(super) fn refuse(&self, key: &str, what: String) -> ConfigError {
        let found = self.entries.and_then(|entries| entries.get_key_value(key));
        let offset = found.map_or(self.offset, |(name, _)| name.span().start);
        self.file.refuse(offset, &full_name(self.name, key), what)
    }
}

/// The tables that `value`, named `name` at `offset`, stands for: where each begins, and its keys; none: it
/// is no table. `[[smarthost]]` given once is the same as `[smarthost]`.
fn entries_of<'v, 't>(
    name: &str,
    offset: usize,
    value: &'v Spanned<DeValue<'t>>,
) -> Vec<(usize, &'v DeTable<'t>)> {
    match (value.get_ref().as_array(), value.get_ref().as_table()) {
        (Some(list), _) if is_repeated(name) => {
            let tables = list.iter().map(|one| one.get_ref().as_table().map(|it| (one.span().start, it)));
            tables.collect::<Option<_>>().unwrap_or_default()
        }
        (_, Some(table)) if keys::is_table(name) => vec![(offset, table)],
        _ => Vec::new(),
    }
}

/// True for a table of which there may be several.
fn is_repeated(name: &str) -> bool {
    name == "smarthost"
}

fn full_name(table: &str, name: &str) -> String {
    if table.is_empty() { shown(name) } else { format!("{}.{}", shown(table), shown(name)) }
}

/// A key as the file has it, with control octets made harmless, at most 64 characters.
fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}
