#!/bin/sh
# The library of a few sample photos as the code of an old commit makes it:
#   tests/files/make_library.sh COMMIT tests/files/library-schema-N.tar.gz
# Run at the top of the repository, as one who may make /srv/photos; PYTHON has fc7's packages.
set -eu
commit=$1 out=$(realpath "$2") python=$(realpath -s "$(command -v "${PYTHON:-.venv-test/bin/python}")") top=$PWD
photos=/srv/photos
[ ! -e $photos ] || { echo "$photos is there already"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work" $photos' EXIT
mkdir "$work/code"
git archive "$commit" | tar x -C "$work/code"
mkdir -p $photos/towers $photos/fruit
for one in 02 04 05; do cp "$top/data/gallery/towers/tower-$one.jpg" $photos/towers; done
for one in 01 02; do cp "$top/data/gallery/lemons/lemon-$one.jpg" $photos/fruit; done
cp "$top/data/gallery/bananas/banana-07.jpg" $photos/fruit
cp $photos/fruit/lemon-01.jpg "$photos/fruit/$(printf 'the same, \377')"   # no UTF-8
cp "$top/data/gallery/shoes/shoe-06.jpg" $photos/gone.jpg
echo "no picture" > $photos/notes.txt
cd "$work/code"
fc7() { "$python" -m ui.cli "$@" --library "$work/library"; }
fc7 index $photos
rm $photos/gone.jpg          # its row stays in the segment, hidden
fc7 index
if fc7 album new "Towers <b>'\"" $photos/towers/*; then   # from schema 2 on
    fc7 album new Lemons $photos/fruit/lemon-01.jpg $photos/fruit/lemon-02.jpg
    fc7 album hide Lemons
    fc7 map
fi
rm -f "$work"/library/index.lock "$work"/library/run.json
# The coder is the one that fc7 brings, and large: the test puts it back.
rm "$work"/library/coders/*
tar cf - -C "$work" --sort=name --owner=0 --group=0 --numeric-owner library | gzip -9n > "$out"
tar tvzf "$out"
