//! One file's tokens, against the law.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{Breach, import_breach, starts_with};

/// What holds at a place in the file.
#[derive(Clone, Copy, Default)]
struct Here {
    /// Inside `#[cfg(test)]` or `#[test]`.
    test: bool,
    /// Inside an `#[expect(clippy::unwrap_used or expect_used, reason = …)]`.
    proved: bool,
    /// Inside the braces of a path that was resolved already.
    resolved: bool,
}

struct Scan<'a> {
    file: &'a str,
    breaches: Vec<Breach>,
}

/// Every breach in the tokens of `text`, which is the module `module`; `test` if only tests have it.
pub(super) fn scan(file: &str, module: &[String], test: bool, text: &str) -> Vec<Breach> {
    let mut scan = Scan { file, breaches: Vec::new() };
    let here = Here { test, ..Here::default() };
    match text.parse::<TokenStream>() {
        Ok(tokens) => scan.walk(&tokens.into_iter().collect::<Vec<_>>(), module, here),
        Err(error) => scan.breach(1, format!("it is no Rust: {error}")),
    }
    scan.breaches
}

/// The modules with files of their own that `text` declares for tests only, `#[cfg(test)] mod x;`, each with the file
/// beside this one that `#[path]` gives it, if one does.
pub(super) fn test_modules(module: &[String], text: &str) -> Vec<(Vec<String>, Option<String>)> {
    let tokens: Vec<TokenTree> = text.parse::<TokenStream>().into_iter().flatten().collect();
    let mut found = Vec::new();
    let (mut test, mut path) = (false, None);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                let attribute = group.stream().to_string().replace(' ', "");
                test |= attribute == "cfg(test)";
                if let Some(file) = attribute.strip_prefix("path=") {
                    path = Some(file.trim_matches('"').to_owned());
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == '#' => {}
            TokenTree::Ident(name) if name == "mod" && test && is_punct(tokens.get(at + 2), ';') => {
                let inner = ident(tokens.get(at + 1));
                found.extend(inner.map(|inner| (module.iter().cloned().chain([inner]).collect(), path.take())));
            }
            TokenTree::Ident(_) => {}
            _ => (test, path) = (false, None),
        }
    }
    found
}

/// Every skipped test in the tokens of `text`.
pub(super) fn ignored(file: &str, text: &str) -> Vec<Breach> {
    let mut scan = Scan { file, breaches: Vec::new() };
    match text.parse::<TokenStream>() {
        Ok(tokens) => scan.ignored(&tokens.into_iter().collect::<Vec<_>>()),
        Err(error) => scan.breach(1, format!("it is no Rust: {error}")),
    }
    scan.breaches
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group.stream().into_iter().collect()),
        _ => None,
    }
}

/// Whether `::` stands at `at`.
fn is_path_sep(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

/// Where the item, statement or field ends that begins at `from`: past its `;`, its `,` or its braces.
fn end_of_item(tokens: &[TokenTree], from: usize) -> usize {
    let binding = matches!(ident(tokens.get(from)).as_deref(), Some("let" | "use" | "const" | "static"));
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ';' => return at + 1,
            TokenTree::Punct(punct) if punct.as_char() == ',' && !binding => return at + 1,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !binding => {
                let goes_on = is_punct(tokens.get(at + 1), '.') || is_punct(tokens.get(at + 1), '?');
                if !goes_on && ident(tokens.get(at + 1)).as_deref() != Some("else") {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Splits the inside of a path's braces at its commas and resolves each leaf from `base`.
fn leaves(tokens: &[TokenTree], base: &[String], into: &mut Vec<Vec<String>>) {
    for leaf in tokens.split(|token| is_punct(Some(token), ',')) {
        if !leaf.is_empty() {
            follow(leaf, 0, base.to_vec(), into);
        }
    }
}

/// Follows a path's segments from `at` and adds where it leads, from the crate's root.
fn follow(tokens: &[TokenTree], mut at: usize, mut path: Vec<String>, into: &mut Vec<Vec<String>>) {
    loop {
        match ident(tokens.get(at)).as_deref() {
            Some("super") => drop(path.pop()),
            Some("self") => {}
            Some(name) => path.push(name.to_owned()),
            None => {
                match group(tokens.get(at), Delimiter::Brace) {
                    Some(inside) => leaves(&inside, &path, into),
                    None => into.push(path),
                }
                return;
            }
        }
        if !is_path_sep(tokens, at + 1) {
            into.push(path);
            return;
        }
        at += 3;
    }
}

impl Scan<'_> {
    fn breach(&mut self, line: usize, what: impl Into<String>) {
        self.breaches.push(Breach { file: self.file.to_owned(), line, what: what.into() });
    }

    fn ignored(&mut self, tokens: &[TokenTree]) {
        for (at, token) in tokens.iter().enumerate() {
            if let TokenTree::Group(group) = token {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                if group.delimiter() == Delimiter::Bracket && at > 0 && is_punct(tokens.get(at - 1), '#') {
                    self.attribute(&inside, true);
                }
                self.ignored(&inside);
            }
        }
    }

    /// Judges one attribute and says what it makes of the item that follows.
    fn attribute(&mut self, inside: &[TokenTree], test: bool) -> Here {
        let mut here = Here::default();
        let Some(first) = inside.first() else { return here };
        let name = ident(Some(first)).unwrap_or_default();
        let arguments = group(inside.get(1), Delimiter::Parenthesis).unwrap_or_default();
        let names: Vec<String> = arguments.iter().filter_map(|token| ident(Some(token))).collect();
        let has = |name: &str| names.iter().any(|other| other == name);
        match name.as_str() {
            "test" => here.test = true,
            "tokio" => here.test = inside.iter().any(|token| ident(Some(token)).as_deref() == Some("test")),
            "cfg" => here.test = names.first().is_some_and(|name| name == "test") && arguments.len() == 1,
            "expect" | "allow" if has("unwrap_used") || has("expect_used") => {
                here.proved = name == "expect" && has("reason");
                if !here.proved {
                    self.breach(line(first), "write #[expect(clippy::…, reason = \"the proof\")] instead");
                }
            }
            "path" if !test => self.breach(line(first), "#[path] is for #[cfg(test)] mod tests, and stands after it"),
            _ => {}
        }
        if name == "ignore" || (name == "cfg_attr" && has("ignore")) {
            self.breach(line(first), "a skipped test proves nothing: make it pass, or remove it");
        }
        here
    }

    fn walk(&mut self, tokens: &[TokenTree], module: &[String], mut here: Here) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if is_punct(Some(token), '#') {
                let inner = is_punct(tokens.get(at + 1), '!');
                if let Some(inside) = group(tokens.get(at + 1 + usize::from(inner)), Delimiter::Bracket) {
                    let begin = at + 2 + usize::from(inner);
                    let adds = self.attribute(&inside, here.test);
                    self.walk(&inside, module, here);
                    let with = Here { test: here.test || adds.test, proved: here.proved || adds.proved, ..here };
                    if inner {
                        here = with;
                        at = begin;
                    } else if adds.test || adds.proved {
                        // Attributes that follow belong to the same item.
                        let mut item = begin;
                        while is_punct(tokens.get(item), '#') {
                            item += 2;
                        }
                        let end = end_of_item(tokens, item);
                        self.walk(tokens.get(begin..end).unwrap_or_default(), module, with);
                        at = end;
                    } else {
                        at = begin;
                    }
                    continue;
                }
            }
            match token {
                TokenTree::Ident(name) => {
                    let name = name.to_string();
                    if name == "mod"
                        && let Some(inner) = ident(tokens.get(at + 1))
                        && let Some(inside) = group(tokens.get(at + 2), Delimiter::Brace)
                    {
                        let module: Vec<String> = module.iter().cloned().chain([inner]).collect();
                        self.walk(&inside, &module, here);
                        at += 3;
                        continue;
                    }
                    self.name(tokens, at, &name, module, here);
                    if !here.resolved && self.imports(tokens, at, &name, module) {
                        // The braces of this path, if it has any, are resolved; the rest of it is read as names.
                        let mut next = at + 1;
                        while is_path_sep(tokens, next) {
                            next += 2;
                            if let Some(inside) = group(tokens.get(next), Delimiter::Brace) {
                                self.walk(&inside, module, Here { resolved: true, ..here });
                            } else if let Some(name) = ident(tokens.get(next)) {
                                self.name(tokens, next, &name, module, here);
                            }
                            next += 1;
                        }
                        at = next;
                        continue;
                    }
                }
                TokenTree::Literal(literal) if starts_with(module, &["domain"]) => {
                    let text = literal.to_string();
                    let number = text.starts_with(|c: char| c.is_ascii_digit()) && !text.starts_with("0x");
                    let field = at > 0 && is_punct(tokens.get(at - 1), '.');
                    if number && !field && text.contains(['.', 'e', 'E']) && !text.ends_with("size") {
                        self.breach(line(token), format!("{text} is a float, and domain has none"));
                    }
                }
                TokenTree::Group(group) => {
                    self.walk(&group.stream().into_iter().collect::<Vec<_>>(), module, here);
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Resolves the path that begins at `at`, if one of the crate's does, and judges where it leads.
    fn imports(&mut self, tokens: &[TokenTree], at: usize, name: &str, module: &[String]) -> bool {
        let binary = starts_with(module, &["main"]);
        let base = match name {
            "crate" if binary => vec!["main".to_owned()],
            "softstake" if binary => Vec::new(),
            "crate" => Vec::new(),
            "super" => module.split_last().map(|(_, around)| around.to_vec()).unwrap_or_default(),
            "self" => module.to_vec(),
            _ => return false,
        };
        let goes_on = at > 1 && is_path_sep(tokens, at - 2);
        if !is_path_sep(tokens, at + 1) || goes_on {
            return false;
        }
        let mut targets = Vec::new();
        follow(tokens, at + 3, base, &mut targets);
        for target in targets {
            if let Some(what) = import_breach(module, &target) {
                self.breach(tokens.get(at).map_or(0, line), what);
            }
        }
        true
    }

    /// Judges one name by where it stands.
    fn name(&mut self, tokens: &[TokenTree], at: usize, name: &str, module: &[String], here: Here) {
        let place = tokens.get(at).map_or(0, line);
        let inside = |rooms: &[&[&str]]| rooms.iter().any(|room| starts_with(module, room));
        let called = group(tokens.get(at + 1), Delimiter::Parenthesis).is_some();
        let macro_call = is_punct(tokens.get(at + 1), '!');
        let after_dot = at > 0 && is_punct(tokens.get(at - 1), '.');
        let after_sep = at > 1 && is_path_sep(tokens, at - 2);
        if inside(&[&["domain"]]) {
            let banned = match name {
                "f32" | "f64" => "a float",
                "HashMap" | "HashSet" | "hashbrown" => "hash-order",
                "async" | "await" | "tokio" | "futures" => "async",
                "serde" | "Serialize" | "Deserialize" | "serde_json" => "serde",
                "rand" | "uuid" => "randomness",
                "prost" | "sled" => "a wire or a store",
                "fs" | "net" | "env" | "process" if after_sep => "IO",
                _ => "",
            };
            if !banned.is_empty() {
                self.breach(place, format!("`{name}` is {banned}, and domain has none"));
            }
        }
        let wired = matches!(name, "tonic" | "tonic_health" | "tonic_prost" | "tonic_reflection" | "tonic_types");
        let wire: [&[&str]; 8] = [
            &["api"],
            &["node"],
            &["client"],
            &["cli"],
            &["pb"],
            &["chain", "remote"],
            &["chain", "cosmos"],
            &["chain", "signer"],
        ];
        if wired && !after_sep && !inside(&wire) {
            self.breach(
                place,
                format!("`{name}` is for api, node, client, cli, pb, chain/remote, chain/cosmos and chain/signer"),
            );
        }
        if here.test {
            return;
        }
        if matches!(name, "SystemTime" | "Instant") && !inside(&[&["clock"], &["telemetry"], &["cli", "bench"]]) {
            self.breach(place, format!("`{name}` is for the clock: take the time as a value"));
        }
        let makes_status = name == "Status"
            && is_path_sep(tokens, at + 1)
            && group(tokens.get(at + 4), Delimiter::Parenthesis).is_some()
            && ident(tokens.get(at + 3)).is_some_and(|made| made.starts_with(|c: char| c.is_ascii_lowercase()));
        if makes_status && !inside(&[&["api", "status"], &["client"], &["chain", "remote", "serve"]]) {
            self.breach(
                place,
                "a Status that is sent is made in api/status.rs, or of a chain in chain/remote/serve.rs",
            );
        }
        let unwraps = matches!(name, "unwrap" | "expect" | "unwrap_err" | "expect_err");
        if unwraps && after_dot && called && !here.proved {
            self.breach(place, format!("`.{name}()` needs #[expect(clippy::…, reason = \"the proof\")], or an error"));
        }
        let steps = inside(&[&["app"], &["book"], &["domain"]]);
        if steps && after_sep && matches!(name, "spawn" | "spawn_blocking" | "spawn_local" | "sleep" | "interval") {
            self.breach(place, format!("`{name}`: app, book and domain are step functions; node drives them"));
        }
        if macro_call && matches!(name, "println" | "eprintln" | "print" | "eprint") && !inside(&[&["cli"], &["main"]])
        {
            self.breach(place, format!("`{name}!` is for the command line: use tracing"));
        }
    }
}
