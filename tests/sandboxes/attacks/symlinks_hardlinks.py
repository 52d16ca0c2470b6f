"""Symbolic and hard links to host files, renames across, links that the cleaning might follow."""
import json, os, posix

facts = json.loads(input())
for number, target in enumerate([facts["canary_file"], facts["folder"], "/etc/passwd", "/proc/1/mem", "/proc/self/root", "/"]):
    link = f"/tmp/link{number}"
    posix.symlink(target, link)
    for flags in (os.O_RDONLY, os.O_WRONLY):
        try:
            file = posix.open(link, flags)
            if target not in ("/etc/passwd", "/", "/proc/self/root") or flags == os.O_WRONLY:
                print("GOT", target, posix.read(file, 99))
        except OSError:
            pass
    for change in (lambda: posix.link(target, f"/tmp/hard{number}"), lambda: posix.rename(target, f"/tmp/moved{number}"), lambda: posix.rename("/tmp", target), lambda: posix.chmod(link, 0o777), lambda: posix.truncate(link, 0)):
        try:
            change()
            print("GOT a change of", target)
        except OSError:
            pass
for change in (lambda: posix.rename("/tmp", "/elsewhere"), lambda: posix.rmdir("/tmp"), lambda: posix.symlink(facts["folder"], "/tmp/../tmp2")):
    try:
        change()
        print("GOT a change of /tmp itself")
    except OSError:
        pass
posix.mkdir("/tmp/folder")
posix.symlink(facts["folder"], "/tmp/folder/inner")
posix.symlink("folder", "/tmp/loop")
posix.symlink("/tmp", "/tmp/folder/up")
print("TRIED")
