"""`cargo tree` on standard input, Cargo.lock as argument; CycloneDX on standard output."""

import json
import sys
import tomllib


def main():
    with open(sys.argv[1], "rb") as file:
        lock = tomllib.load(file)
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}
    components, edges, above = {}, {}, []
    for line in sys.stdin:
        depth, package, licence = line.rstrip("\n").split("|")
        name, version = package.split(" ")[:2]
        version = version.removeprefix("v")
        reference = f"pkg:cargo/{name}@{version}"
        del above[int(depth) :]
        if above:
            edges[above[-1]].add(reference)
        above.append(reference)
        edges.setdefault(reference, set())
        components.setdefault(reference, component(reference, name, version, licence, checksums))
    root = next(iter(components))
    components[root]["type"] = "application"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": components.pop(root)},
        "components": [components[one] for one in sorted(components)],
        "dependencies": [{"ref": one, "dependsOn": sorted(edges[one])} for one in sorted(edges)],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


def component(reference, name, version, licence, checksums):
    entry = {"type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference}
    if licence:
        entry["licenses"] = [{"expression": licence.replace(" / ", "/").replace("/", " OR ")}]
    if checksums.get((name, version)):
        entry["hashes"] = [{"alg": "SHA-256", "content": checksums[name, version]}]
    return entry


main()
