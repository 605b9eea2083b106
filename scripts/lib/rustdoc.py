"""A crate's public items as rustdoc's JSON tells them: what they are, where they stand, their words and the types they name."""
import dataclasses, re

FORMATS = range(56, 62)  # those that a compiler of the last months writes and that read alike here

TYPES = {"struct", "enum", "union", "trait", "type_alias"}
STD = {"std", "core", "alloc"}


@dataclasses.dataclass
class Item:
    path: str  # `llm_core::Llm::chat`, the shortest there is
    kind: str  # `function`, `struct`, `module`, ..
    docs: str
    place: str  # `crates/llm-core/src/llm/mod.rs:12`
    pages: list  # the words of the pages that a reader of it sees: its own, its type's, its module's
    foreign: set  # the full paths of other crates' types and traits that it names
    gives_result: bool

    @property
    def name(self):
        return self.path.rpartition("::")[2]

    def meet(self, other):
        """The same item by another path."""
        self.path = min(self.path, other.path, key=lambda path: (path.count("::"), path))
        self.pages += other.pages


class Crate:
    def __init__(self, json):
        if json["format_version"] not in FORMATS:
            raise SystemExit(f"rustdoc wrote format {json['format_version']}: see whether scripts/lib/rustdoc.py can read it, and say so in FORMATS")
        self.index, self.paths = json["index"], json["paths"]
        self.crates = {int(id): crate["name"] for id, crate in json["external_crates"].items()}
        self.found = {}
        self.module(str(json["root"]), [], set())

    def items(self):
        return sorted(self.found.values(), key=lambda item: item.path)

    def module(self, id, path, via):
        item = self.index[id]
        path = [*path, item["name"]]
        self.note(id, path, [], {})
        self.members(item["inner"]["module"]["items"], path, [docs(item)], via)

    def members(self, ids, path, pages, via):
        """What stands in a module; `via` are the `use` that led here, against circles."""
        for id in map(str, ids):
            item = self.index.get(id)
            if not item or id in via or item["visibility"] != "public":
                continue
            kind, inner = of(item)
            if kind == "use":
                self.used(inner, path, pages, {*via, id})
            elif kind == "module":
                self.module(id, path, via)
            else:
                self.item(id, [*path, item["name"]], pages)

    def used(self, use, path, pages, via):
        target = str(use["id"])
        if target not in self.index:
            self.found[(target, use["source"])] = Item("::".join([*path, use["name"]]), "use", "re-exported", "?", [], self.foreign(use), False)
        elif use["is_glob"]:
            self.members(of(self.index[target])[1]["items"], path, pages, via)
        else:
            self.members([target], path, pages, via)

    def item(self, id, path, pages):
        kind, inner = of(self.index[id])
        impls = self.known(inner.get("impls", [])) if kind in TYPES else []
        inherent = [impl for impl in impls if not of(impl)[1]["trait"]]
        parts = inner["items"] if kind == "trait" else [part for impl in inherent for part in of(impl)[1]["items"]]
        parts = [part for part in parts if str(part) in self.index and (kind == "trait" or self.index[str(part)]["visibility"] == "public")]
        pages = [docs(self.index[id]), *map(docs, self.known(parts)), *pages]
        # A trait's own items are noted one by one, and its implementors' types are theirs.
        inner = {} if kind == "macro" else inner
        says = {key: value for key, value in inner.items() if key not in ("items", "implementations", "impls")}
        self.note(id, path, pages, [says, *self.fields(inner), *map(self.implemented, impls)])
        for part in parts:
            self.note(str(part), [*path, self.index[str(part)]["name"]], pages, of(self.index[str(part)])[1])

    def fields(self, inner):
        """The types of a type's public fields, those of an enum's variants among them."""
        kind = inner.get("kind", {})
        kind = kind if isinstance(kind, dict) else {}
        ids = inner.get("variants") or kind.get("plain", kind.get("struct", {})).get("fields") or kind.get("tuple") or []
        for field in self.known(id for id in ids if id is not None):
            name, of_field = of(field)
            yield from self.fields(of_field) if name == "variant" else [of_field]

    def implemented(self, impl):
        """What an implementation of ours names: not what every type gets from elsewhere."""
        inner = of(impl)[1]
        if inner["is_synthetic"] or inner["blanket_impl"]:
            return {}
        associated = [of(part)[1] for part in self.known(inner["items"]) if of(part)[0] == "assoc_type"]
        return [inner["trait"], inner["for"], inner["generics"], associated]

    def note(self, id, path, pages, says):
        item, span = self.index[id], self.index[id]["span"]
        kind, inner = of(item)
        output = inner.get("sig", {}).get("output") if kind == "function" else None
        place = f"{span['filename']}:{span['begin'][0]}" if span else "?"
        new = Item("::".join(path), kind, docs(item), place, [docs(item), *pages], self.foreign(says), gives_result(output))
        if id in self.found:
            self.found[id].meet(new)
        else:
            self.found[id] = new

    def known(self, ids):
        return [self.index[str(id)] for id in ids if str(id) in self.index]

    def foreign(self, says):
        known = [self.paths[str(id)] for _, id in named(says) if str(id) in self.paths]
        return {"::".join(at["path"]) for at in known if at["crate_id"] and self.crates[at["crate_id"]] not in STD}


def of(item):
    """The kind of an item, and what there is of that kind."""
    return next(iter(item["inner"].items()))


def docs(item):
    return item["docs"] or ""


def gives_result(output):
    """Whether a function's type is a Result, at once or in a while."""
    outer = (output or {}).get("resolved_path", {})
    names = [name for name, _ in named(outer)]
    return any(name.endswith("Result") for name in (names if outer.get("path", "").endswith("BoxFuture") else names[:1]))


def named(says):
    """Each type and trait that a piece of a signature names: its path as written, and its id."""
    if isinstance(says, dict):
        if "id" in says and isinstance(path := says.get("path", says.get("source")), str):
            yield path, says["id"]
        says = says.values()
    if not isinstance(says, str):
        for part in says if hasattr(says, "__iter__") else []:
            yield from named(part)


def examples(text):
    """The code of each example that runs, without its comments."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.M | re.S)
    return [re.sub(r"//.*", "", code) for words, code in found if runs(words, code)]


def runs(words, code):
    """Not what is another language, and not what is compiled and never called: `no_run`, or `# async fn f(llm: Llm) {` around it."""
    if set(re.split(r"[,\s]+", words)) - {"", "rust", "should_panic", "edition2024"}:
        return False
    hidden = re.findall(r"^# *(?:async )?fn (\w+)", code, re.M)
    return all(name == "main" or len(re.findall(rf"\b{name}\(", code)) > 1 for name in hidden)
