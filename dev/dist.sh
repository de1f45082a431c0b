#!/bin/sh
# The last commit as a tarball, ${BUILD}/muon.c-VERSION.tar.gz: `make dist`. Times, owners and order are the commit's, so that anybody
# gets the same bytes from it.
set -eu
cd "$(dirname "$0")/.."
if ! command -v git >/dev/null || [ "$(git rev-parse --show-prefix 2>/dev/null || echo none)" ]; then
    echo "error: make dist: the commit that becomes a tarball is expected here, with git; this folder is none of a repository's own" >&2
    exit 1
fi
name=muon.c-$(git show HEAD:muon.h | sed -n 's/^#define MUON_VERSION "\(.*\)"/\1/p')
git diff --quiet HEAD || echo "warning: changes that are not committed are not in it" >&2
mkdir -p "$BUILD"
file=$BUILD/$name.tar.gz
git -c tar.umask=0022 archive --format=tar --prefix="$name/" -o "$file.tar" HEAD
gzip -9n < "$file.tar" > "$file.new"
rm "$file.tar"
mv "$file.new" "$file"
echo "$file"
