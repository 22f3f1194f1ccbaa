#!/bin/bash
# deb.sh BUILD VERSION: the Debian package of the program in BUILD, from what `make install` installs; `make deb`.
# Everything is made below BUILD/deb; the package is BUILD/deb/ossmount_VERSION_ARCH.deb.
set -euo pipefail
build=$1 version=$2
top=$build/deb root=$build/deb/root sources=fs/dist/debian
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
maintainer=${MAINTAINER:-'ossmount maintainers <maintainers@ossmount.invalid>'}
arch=$(dpkg --print-architecture)
rm -rf "$top"
# Its directories are read by everybody, whatever the caller's umask.
umask 022
mkdir -p "$root/DEBIAN"

make --no-print-directory -s install DESTDIR="$PWD/$root" PREFIX=/usr SBINDIR=/usr/sbin >"$top/install.log"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/ossmount"
gzip -9n "$root/usr/share/man/man1/ossmount.1"
mkdir -p "$root/usr/share/man/man8"
for helper in mount.ossmount mount.fuse.ossmount; do
    ln -sfn ../bin/ossmount "$root/usr/sbin/$helper"
    ln -s ../man1/ossmount.1.gz "$root/usr/share/man/man8/$helper.8.gz"
done
install -D -m 644 fs/dist/example.conf "$root/etc/ossmount/example.conf"
install -m 644 $sources/copyright "$root/usr/share/doc/ossmount/copyright"
printf 'ossmount (%s) unstable; urgency=medium\n\n  * Version %s.\n\n -- %s  %s\n' "$version" "$version" "$maintainer" \
    "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$root/usr/share/doc/ossmount/changelog.gz"

# It looks for the description of a source package, of which only the name counts.
mkdir -p "$top/shlibs/debian"
printf 'Source: ossmount\n\nPackage: ossmount\nArchitecture: any\n' >"$top/shlibs/debian/control"
depends=$(cd "$top/shlibs" && dpkg-shlibdeps -O ../root/usr/bin/ossmount 2>"../shlibs.log" | sed 's/^shlibs:Depends=//')
size=$(du -k -s --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" -e "s/@DEPENDS@/$depends/" \
    -e "s/@MAINTAINER@/$maintainer/" $sources/control.in >"$root/DEBIAN/control"
install -m 755 $sources/postinst $sources/postrm "$root/DEBIAN/"
(cd "$root" && find etc -type f -printf '/%p\n' >DEBIAN/conffiles)
(cd "$root" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -printf '%P\n' | LC_ALL=C sort | xargs md5sum >DEBIAN/md5sums)
chmod 644 "$root/DEBIAN/control" "$root/DEBIAN/conffiles" "$root/DEBIAN/md5sums"
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --build "$root" "$top/ossmount_${version}_$arch.deb" >/dev/null
touch "$top/.made"
