"""Albums: the groups that clustering finds in a library, and what a person makes of them.

Grouping takes minutes in a large library and holds no lock meanwhile; what it found is written at
once, beside the albums as they are by then. So a person may edit albums, and photos may come and
go, at any time.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indexer import album_rows as rows
from indexer.album_rows import About, Album, Fact
from indexer.catalog import Catalog, Photo, Writer
from indexer.filters import Filters
from indexer.grouping import Grouping, find_groups
from indexer.moments import at_one_moment
from indexer.regrouping import Known, Regrouped, regroup
from indexer.titles import title_of
from indexer.vectors import Vectors
from retrieval.errors import LibraryError

Order = Literal["time", "closeness"]
_MEASURED = 2048  # photos of an album that say which is its cover, 32 MB
_LONGEST_NAME = 200  # characters
_Shown = frozenset[tuple[int, int]]  # photos with their contents
_FILLED = 0.6  # of an album and of a folder must be the same photos for it to lend its name


@dataclass(frozen=True, slots=True)
class Change:
    """What a grouping did to one album."""

    album: str  # its name
    id: int | None  # None: it is not there yet, or not any more
    before: int  # photos; 0: it is new
    after: int  # photos; 0: it is gone
    came: int  # photos
    went: int


@dataclass(frozen=True, slots=True)
class GroupReport:
    """What a grouping found."""

    photos: int
    left_out: int  # photos in no album
    changes: tuple[Change, ...]  # of albums that changed, the largest first


@dataclass(frozen=True, slots=True)
class Proposal:
    """A grouping that was found, and is not kept yet."""

    how: Grouping
    groups: tuple[frozenset[int], ...]  # of photos
    fingerprint: str  # of the photos that were grouped
    report: GroupReport  # what it would change


class Albums:
    """The albums of one library."""

    def __init__(
        self,
        catalog: Catalog,
        vectors: Vectors,
        rows: Callable[[Catalog], Callable[[Sequence[int]], NDArray[np.float32]]],
    ) -> None:
        """rows: (the catalogue at a moment) -> what gives the rows (n, d) of contents of then."""
        self._catalog = catalog
        self._vectors = vectors
        self._rows = rows

    # --- looking

    def all(self, *, hidden: bool = False) -> list[Album]:
        """Those with most photos first. hidden: those that a person hid, too."""
        return [album for album in rows.read_albums(self._catalog) if hidden or not album.hidden]

    def get(self, which: int | str) -> Album:
        """The album of this number, or of this name, in any case. Raises LibraryError."""
        return self._get(self._catalog, which)

    def _get(self, source: Catalog | Writer, which: int | str) -> Album:
        albums = rows.read_albums(source)
        for album in albums:
            if album.id == which or str(album.id) == which:
                return album
        named = [a for a in albums if a.name.casefold() == str(which).casefold()]
        if len(named) == 1:
            return named[0]
        if named:
            numbers = ", ".join(str(album.id) for album in named)
            raise LibraryError(f"several albums are called {which!r}: say its number, {numbers}")
        raise LibraryError(f"there is no album {which!r}: fc7 albums lists them")

    def photos(
        self, album: int, *, by: Order = "time", offset: int = 0, limit: int | None = None
    ) -> list[Photo]:
        """Its photos by time, those without a date last, by path.

        by: "closeness" begins with those nearest to its cover. limit: None for all.

        Raises LibraryError if there is no such album.
        """

        def photos_at(view: Catalog) -> list[Photo]:
            cover = self._get(view, album).cover
            if by == "time" or cover is None:
                inside = Filters(album=album)
                return view.photos(offset=offset, limit=limit, filters=inside, oldest_first=True)
            return self._nearest(view, album, cover, offset, limit)

        return at_one_moment(self._catalog, photos_at)

    def _nearest(
        self, view: Catalog, album: int, cover: int, offset: int, limit: int | None
    ) -> list[Photo]:
        contents = rows.contents_of_album(view, album)
        descriptors = self._rows(view)
        (asked,) = descriptors([contents[cover]])
        photos = np.array(list(contents))
        nearness = np.empty(len(photos), np.float32)
        for start in range(0, len(photos), _MEASURED):
            part = slice(start, start + _MEASURED)
            described = descriptors([contents[photo] for photo in photos[part].tolist()])
            nearness[part] = described @ asked
        order = np.argsort(-nearness, kind="stable")
        chosen = photos[order][offset : None if limit is None else offset + limit].tolist()
        found = (view.photo(photo) for photo in chosen)
        return [photo for photo in found if photo is not None]

    def of_photos(self) -> Mapping[int, list[int]]:
        """The numbers of the albums that a photo is in, by the photo's."""
        return rows.albums_by_photo(self._catalog)

    # --- grouping

    def grouping(self) -> Grouping:
        """How photos were last grouped, or would be."""
        settings = self._catalog.settings()
        if "albums_granularity" not in settings:
            return Grouping()
        number = settings["albums_number"]
        return Grouping(
            number=int(number) if number else None,
            granularity=float(settings["albums_granularity"]),
            time="time" in settings["albums_with"],
            place="place" in settings["albums_with"],
        )

    def is_current(self) -> bool:
        """Whether these photos were grouped already."""
        now = _fingerprint(rows.read_contents(self._catalog))
        return self._catalog.settings().get("albums_of") == now

    def group(
        self,
        how: Grouping | None = None,
        *,
        preview: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> GroupReport:
        """Group all photos anew; what a person said of albums and photos holds.

        how: by default as the last time. preview: only say what would change.
        progress: called with (descriptors read, of how many).

        Raises LibraryError if there are fewer photos than albums asked for, or none.
        """
        proposal = self.propose(how, progress=progress)
        return proposal.report if preview else self.keep(proposal)

    def propose(
        self,
        how: Grouping | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Proposal:
        """Find groups, and what they would change; changes nothing. As `group` otherwise."""
        how = how or self.grouping()
        facts = rows.read_facts(self._catalog)
        if not facts:
            raise LibraryError("there are no photos to group yet: fc7 index FOLDER adds some")
        groups = tuple(find_groups(self._catalog, self._vectors, facts, how, progress))
        with self._catalog.snapshot() as view:
            now = rows.read_facts(view)
            known = rows.read_known(view)
            report = self._report(view, known, _regroup(known, groups, now, how), now, {})
        grouped = {photo: fact.content for photo, fact in facts.items()}
        return Proposal(how, groups, _fingerprint(grouped), report)

    def keep(self, proposal: Proposal) -> GroupReport:
        """Do what was proposed, with the albums and photos as they are by now."""
        how = proposal.how
        # What takes long comes first: a run's commits wait for what is done while writing.
        told = at_one_moment(self._catalog, lambda view: self._tell(view, proposal))
        with self._catalog.write(contents=False) as writer:
            now = rows.read_facts(writer)
            known = rows.read_known(writer)
            after = _regroup(known, proposal.groups, now, how)
            report = self._report(writer, known, after, now, told)
            self._store(writer, known, after, now, told)
            writer.set(
                albums_number=str(how.number or ""),
                albums_granularity=repr(how.granularity),
                albums_with=" ".join(n for n in ("time", "place") if getattr(how, n)),
                albums_of=proposal.fingerprint,
            )
        return report

    def _tell(self, view: Catalog, proposal: Proposal) -> dict[_Shown, About]:
        """What is to be said of the albums that would change now, by what they show."""
        facts, known = rows.read_facts(view), rows.read_known(view)
        after = _regroup(known, proposal.groups, facts, proposal.how)
        before = {album.id: album.photos for album in known}
        return {
            _shown(album.photos, facts): self._about(view, album.photos, facts)
            for album in after
            if album.id is None or album.photos != before[album.id]
        }

    def _report(
        self,
        source: Catalog | Writer,
        known: Sequence[Known],
        after: Sequence[Regrouped],
        facts: Mapping[int, Fact],
        told: Mapping[_Shown, About],
    ) -> GroupReport:
        albums = rows.read_albums(source)
        given = {album.id: album.name for album in albums if album.named}
        before = {album.id: album.photos for album in known}
        changes = []
        for album in after:
            old = before.get(album.id, frozenset()) if album.id is not None else frozenset[int]()
            came, went = len(album.photos - old), len(old - album.photos)
            if came or went:
                about = told.get(_shown(album.photos, facts))
                title = about.title if about else self._title(source, album.photos, facts)
                name = given.get(album.id or 0) or title
                changes.append(Change(name, album.id, len(old), len(album.photos), came, went))
        stay = {album.id for album in after}
        names = {album.id: album.name for album in albums}
        for id_, photos in before.items():
            if id_ not in stay:
                changes.append(Change(names[id_], None, len(photos), 0, 0, len(photos)))
        inside = frozenset[int]().union(*(album.photos for album in after))
        changes.sort(key=lambda change: (-max(change.after, change.before), change.id or 0))
        return GroupReport(len(facts), len(facts.keys() - inside), tuple(changes))

    def _store(
        self,
        writer: Writer,
        known: Sequence[Known],
        after: Sequence[Regrouped],
        facts: Mapping[int, Fact],
        told: Mapping[_Shown, About],
    ) -> None:
        before = {album.id: album.photos for album in known}
        rows.remove_albums(writer, before.keys() - {album.id for album in after})
        for album in after:
            id_ = rows.add_album(writer, "") if album.id is None else album.id
            old = before.get(id_, frozenset())
            if album.photos != old:
                rows.forget_photos(writer, id_, old - album.photos)
                rows.put_photos(writer, id_, album.photos - old)
                about = told.get(_shown(album.photos, facts))  # else it has changed since
                about = about or self._about(writer, album.photos, facts)
                rows.describe_album(writer, id_, about)

    # --- a person's word

    def rename(self, album: int, name: str) -> Album:
        """Call it so from now on. An empty name brings its title back."""
        name = _checked(name)
        with self._editing(album) as writer:
            rows.change_album(writer, album, name=name or None)
            return self._get(writer, album)

    def hide(self, album: int, *, hidden: bool = True) -> Album:
        """Leave it out of lists, or show it again."""
        with self._editing(album) as writer:
            rows.change_album(writer, album, hidden=hidden)
            return self._get(writer, album)

    def merge(self, album: int, others: Collection[int]) -> Album:
        """Put the photos of others into it; the others are gone."""
        gone = set(others) - {album}
        with self._editing(album, *gone) as writer:
            known = rows.read_known(writer, gone)
            rows.put_photos(writer, album, frozenset[int]().union(*(one.photos for one in known)))
            rows.remove_albums(writer, gone)
            self._describe(writer, album)
            return self._get(writer, album)

    def move(self, photos: Collection[int], album: int) -> Album:
        """Put photos into it; they are in no other album then."""
        with self._editing(album) as writer:
            self._check(writer, photos)
            for other, own in rows.albums_with(writer, photos).items():
                if other != album:
                    rows.change_album(writer, other, kept=True)
                    rows.put_photos(writer, other, own, taken_out=True)
                    self._describe(writer, other)
            rows.put_photos(writer, album, photos)
            self._describe(writer, album)
            return self._get(writer, album)

    def remove(self, photos: Collection[int], album: int) -> Album:
        """Take photos out of it; grouping does not bring them back."""
        with self._editing(album) as writer:
            self._check(writer, photos)
            rows.put_photos(writer, album, photos, taken_out=True)
            self._describe(writer, album)
            return self._get(writer, album)

    def create(self, name: str, photos: Collection[int]) -> Album:
        """Make an album of these photos; they stay in their others too."""
        name = _checked(name)
        with self._catalog.write(contents=False) as writer:
            self._check(writer, photos)
            id_ = rows.add_album(writer, "", name=name or None, kept=True)
            rows.put_photos(writer, id_, photos)
            self._describe(writer, id_)
            return self._get(writer, id_)

    @contextmanager
    def _editing(self, *albums: int) -> Iterator[Writer]:
        """What a person changes is kept. Raises LibraryError if an album is not there."""
        with self._catalog.write(contents=False) as writer:
            for album in albums:
                if not rows.read_known(writer, [album]):
                    raise LibraryError(f"there is no album {album}: fc7 albums lists them")
                rows.change_album(writer, album, kept=True)
            yield writer

    def _check(self, writer: Writer, photos: Collection[int]) -> None:
        missing = set(photos) - rows.read_facts(writer, photos).keys()
        if missing:
            raise LibraryError(f"no photo {min(missing)} in the library: it was removed")

    def _describe(self, writer: Writer, album: int) -> None:
        (known,) = rows.read_known(writer, [album])
        facts = rows.read_facts(writer, known.photos)
        rows.describe_album(writer, album, self._about(writer, known.photos, facts))

    # --- what is said of an album

    def _about(
        self, source: Catalog | Writer, photos: frozenset[int], facts: Mapping[int, Fact]
    ) -> About:
        from retrieval.clustering import cohesion, medoid

        if not photos:
            return About("no photos", None, None)
        some = sorted(photos)[:: -(-len(photos) // _MEASURED)]
        if isinstance(source, Catalog):
            descriptors = self._rows(source)
        else:  # nobody else writes meanwhile: what is committed is what the writer sees
            descriptors = at_one_moment(self._catalog, self._rows)
        described = descriptors([facts[photo].content for photo in some])
        title = self._title(source, photos, facts)
        return About(title, some[medoid(described)], cohesion(described))

    def _title(
        self, source: Catalog | Writer, photos: frozenset[int], facts: Mapping[int, Fact]
    ) -> str:
        own = [facts[photo] for photo in photos]
        labels = rows.sum_labels(source, {fact.content for fact in own})
        dates = [fact.taken_at for fact in own if fact.taken_at is not None]
        folder, inside = Counter(fact.path.parent for fact in own).most_common(1)[0]
        fills = inside >= _FILLED * max(len(own), rows.count_under(source, folder))
        return title_of(len(own), labels, folder.name if fills else "", dates)


def _shown(photos: Collection[int], facts: Mapping[int, Fact]) -> _Shown:
    return frozenset((photo, facts[photo].content) for photo in photos)


def _checked(name: str) -> str:
    """A name as it is kept. Raises LibraryError if it is too long."""
    name = re.sub(r"\s+", " ", name).strip()
    if len(name) > _LONGEST_NAME:
        raise LibraryError(f"that name has {len(name)} characters: {_LONGEST_NAME} at most")
    return name


def _fingerprint(contents: Mapping[int, int]) -> str:
    """Of which photos there are, and what they show. contents: by photo."""
    return hashlib.sha256(np.array(sorted(contents.items()), np.int64).tobytes()).hexdigest()


def _regroup(
    known: Sequence[Known],
    groups: Sequence[frozenset[int]],
    facts: Mapping[int, Fact],
    how: Grouping,
) -> list[Regrouped]:
    """As `regroup`, without the photos that have gone since the groups were found."""
    from retrieval.clustering import SMALLEST

    smallest = SMALLEST if how.number is None else 1
    return regroup(known, [group & facts.keys() for group in groups], smallest)
