//! Every path that a source file uses: of this crate, of `std`, of other crates.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// This crate; the path follows without `crate`.
    Crate,
    /// `std`, `core` or `alloc`; the path follows without it.
    Std,
    /// Another crate: the first part of the path.
    Outside,
    /// Not a path: a module `tests` that would be built into the product.
    Tests,
}

/// A path used.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) root: Root,
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// Returns the paths that `text` uses outside of its tests; `module` is the path of the file's module.
pub(super) fn found_in(text: &str, module: &[String], dependencies: &BTreeSet<String>) -> Vec<Found> {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let mut scan = Scan {
        dependencies,
        module: module.to_vec(),
        names: BTreeMap::new(),
        found: Vec::new(),
    };
    // Names first: a function may stand above the `use` that brings in what it names.
    scan.tokens(&tokens, true);
    scan.found.clear();
    scan.tokens(&tokens, false);
    scan.found
}

struct Scan<'a> {
    dependencies: &'a BTreeSet<String>,
    /// The module that is being read; longer inside `mod x { … }`.
    module: Vec<String>,
    /// What `use` brought in: name to path, absolute.
    names: BTreeMap<String, (Root, Vec<String>)>,
    found: Vec<Found>,
}

impl Scan<'_> {
    fn tokens(&mut self, tokens: &TokenStream, gather: bool) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at += self.step(&tokens[at..], gather);
        }
    }

    /// Reads what `tokens` begin with and returns how many of them that was, at least one.
    fn step(&mut self, tokens: &[TokenTree], gather: bool) -> usize {
        match tokens {
            [TokenTree::Punct(hash), TokenTree::Group(attribute), ..]
                if hash.as_char() == '#' && is_cfg_test(attribute) =>
            {
                2 + item_len(&tokens[2..])
            }
            [TokenTree::Ident(word), rest @ ..] if word == "use" => {
                let len = rest
                    .iter()
                    .position(|token| is_punct(token, ';'))
                    .unwrap_or(rest.len());
                self.use_tree(&[], &rest[..len], gather);
                1 + len
            }
            [
                TokenTree::Ident(word),
                TokenTree::Ident(krate),
                TokenTree::Ident(name),
                ..,
            ] if word == "extern" && krate == "crate" => {
                self.add(&[name.to_string()], name, true);
                3
            }
            [
                TokenTree::Ident(word),
                TokenTree::Ident(name),
                TokenTree::Group(body),
                ..,
            ] if word == "mod" && body.delimiter() == Delimiter::Brace => {
                self.module.push(name.to_string());
                self.tokens(&body.stream(), gather);
                self.module.pop();
                3
            }
            [TokenTree::Ident(word), TokenTree::Ident(name), ..] if word == "mod" && name == "tests" => {
                let line = name.span().start().line;
                let (root, path) = (Root::Tests, Vec::new());
                self.found.push(Found { root, path, line });
                2
            }
            // A method or a field: `x.bytes::<u8>()` begins no path.
            [TokenTree::Punct(dot), TokenTree::Ident(_), ..] if dot.as_char() == '.' => {
                1 + path_len(&tokens[1..])
            }
            [TokenTree::Punct(_), ..] if leading_colons(tokens) => {
                let len = path_len(&tokens[2..]);
                self.path(&tokens[2..2 + len]);
                2 + len.max(1)
            }
            [TokenTree::Ident(_), ..] => {
                let len = path_len(tokens);
                self.path(&tokens[..len]);
                len
            }
            [TokenTree::Group(group), ..] => {
                self.tokens(&group.stream(), gather);
                1
            }
            _ => 1,
        }
    }

    /// Takes a path of code: only one with `::` in it names something for certain.
    fn path(&mut self, tokens: &[TokenTree]) {
        let parts = idents(tokens);
        if let [first, _, ..] = parts.as_slice() {
            let names: Vec<String> = parts.iter().map(ToString::to_string).collect();
            self.add(&names, first, false);
        }
    }

    /// Reads `a::{b, c as d, e::*}` below `prefix`.
    fn use_tree(&mut self, prefix: &[String], tokens: &[TokenTree], gather: bool) {
        let tokens = if leading_colons(tokens) {
            &tokens[2..]
        } else {
            tokens
        };
        let len = path_len(tokens);
        let parts = idents(&tokens[..len]);
        let mut path: Vec<String> = prefix.to_vec();
        path.extend(parts.iter().map(ToString::to_string));
        let group = tokens.iter().find_map(|token| braces(token));
        if let Some(group) = group {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            for branch in inner.split(|token| is_punct(token, ',')) {
                if !branch.is_empty() {
                    self.use_tree(&path, branch, gather);
                }
            }
            return;
        }
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        // `a as b` leaves `as` and `b` after the path.
        let renamed = idents(&tokens[len..]).last().map(ToString::to_string);
        let Some(name) = renamed.or_else(|| path.last().cloned()) else {
            return;
        };
        let Some(token) = parts.last() else {
            // `prefix::*` inside a group, such as `{*}`.
            return;
        };
        let is_glob = tokens[len..].iter().any(|token| is_punct(token, '*'));
        if gather && !is_glob {
            if let Some(resolved) = self.resolve(&path, true) {
                self.names.insert(name, resolved);
            }
        } else if !gather {
            self.add(&path, token, true);
        }
    }

    /// Adds a path if it leads anywhere but to this file.
    fn add(&mut self, path: &[String], token: &Ident, in_use: bool) {
        if let Some((root, path)) = self.resolve(path, in_use) {
            let line = token.span().start().line;
            self.found.push(Found { root, path, line });
        }
    }

    /// Makes a path absolute; none when it begins with a name of this file.
    fn resolve(&self, path: &[String], in_use: bool) -> Option<(Root, Vec<String>)> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" | "frontstream" => Some((Root::Crate, rest.to_vec())),
            "std" | "core" | "alloc" => Some((Root::Std, rest.to_vec())),
            "self" => {
                let absolute = self.module.iter().chain(rest).cloned().collect();
                Some((Root::Crate, climb(absolute)))
            }
            "super" => {
                let absolute = self.module.iter().chain(path).cloned().collect();
                Some((Root::Crate, climb(absolute)))
            }
            name => {
                if !in_use && let Some((root, known)) = self.names.get(name) {
                    return Some((*root, known.iter().chain(rest).cloned().collect()));
                }
                let outside = self.dependencies.contains(name);
                outside.then(|| (Root::Outside, path.to_vec()))
            }
        }
    }
}

/// Takes `a::b::super::c` to `a::c`.
fn climb(path: Vec<String>) -> Vec<String> {
    let mut climbed = Vec::new();
    for part in path {
        if part == "super" {
            climbed.pop();
        } else {
            climbed.push(part);
        }
    }
    climbed
}

/// Returns how many tokens the path at the beginning of `tokens` has: `a::b::c`.
fn path_len(tokens: &[TokenTree]) -> usize {
    if !matches!(tokens.first(), Some(TokenTree::Ident(_))) {
        return 0;
    }
    let mut len = 1;
    while leading_colons(&tokens[len..]) && matches!(tokens.get(len + 2), Some(TokenTree::Ident(_))) {
        len += 3;
    }
    len
}

fn idents(tokens: &[TokenTree]) -> Vec<&Ident> {
    let mut found = Vec::new();
    for token in tokens {
        if let TokenTree::Ident(ident) = token {
            found.push(ident);
        }
    }
    found
}

fn braces(token: &TokenTree) -> Option<&Group> {
    let TokenTree::Group(group) = token else {
        return None;
    };
    (group.delimiter() == Delimiter::Brace).then_some(group)
}

fn leading_colons(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [a, b, ..] if is_punct(a, ':') && is_punct(b, ':'))
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_cfg_test(attribute: &Group) -> bool {
    attribute.delimiter() == Delimiter::Bracket
        && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// Returns how many tokens the item at the beginning of `tokens` has, its other attributes included.
fn item_len(tokens: &[TokenTree]) -> usize {
    let end = tokens
        .iter()
        .position(|token| braces(token).is_some() || is_punct(token, ';'));
    let Some(end) = end else {
        return tokens.len();
    };
    // `use a::{b};` goes on after its braces; a function or a module does not.
    let semicolon = tokens.get(end + 1).is_some_and(|token| is_punct(token, ';'));
    end + 1 + usize::from(semicolon)
}
