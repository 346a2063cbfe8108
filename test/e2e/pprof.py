# SPDX-License-Identifier: GPL-3.0-or-later
"""A decoder for pprof's profiles that shares nothing with the writer: gzip, protobuf's wire format, then ids and strings resolved."""
import gzip

VARINT, BYTES = 0, 2


def varint(data, at):
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        assert shift < 64, "a varint that is too long"


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def fields(data):
    """{number: [values]}; integers and bytes."""
    found, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == VARINT:
            value, at = varint(data, at)
        else:
            assert tag & 7 == BYTES, f"wire type {tag & 7} is not used by the format"
            length, at = varint(data, at)
            assert at + length <= len(data), "a field that is longer than its message"
            value, at = data[at:at + length], at + length
        found.setdefault(tag >> 3, []).append(value)
    return found


def number(message, key):
    return message.get(key, [0])[-1]


def numbers(message, key):
    """A repeated number, packed or not."""
    found = []
    for value in message.get(key, []):
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = varint(value, at)
            found.append(one)
    return found


def by_id(profile, key):
    messages = [fields(data) for data in profile.get(key, [])]
    found = {number(message, 1): message for message in messages}
    assert len(found) == len(messages) and 0 not in found, "ids are not unique, or 0"
    return found


def read_pprof(content):
    profile = fields(gzip.decompress(content))
    strings = [data.decode("utf-8") for data in profile[6]]
    assert strings[0] == "" and len(set(strings)) == len(strings), "the first string is not empty, or one is there twice"
    functions, locations, mappings = by_id(profile, 5), by_id(profile, 4), by_id(profile, 3)

    def value_type(data):
        message = fields(data)
        return strings[number(message, 1)], strings[number(message, 2)]

    def line(data):
        message = fields(data)
        function = functions[number(message, 1)]
        return {"name": strings[number(function, 2)], "system_name": strings[number(function, 3)],
                "file": strings[number(function, 4)], "line": signed(number(message, 2))}

    def mapping(message):
        return {"start": number(message, 2), "limit": number(message, 3), "offset": number(message, 4),
                "file": strings[number(message, 5)], "has_functions": bool(number(message, 7)),
                "has_filenames": bool(number(message, 8)), "has_line_numbers": bool(number(message, 9)),
                "has_inline_frames": bool(number(message, 10))}

    def location(one):
        message = locations[one]
        which = number(message, 2)
        return {"address": number(message, 3), "lines": [line(data) for data in message[4]],
                "mapping": mapping(mappings[which]) if which else None}

    samples = []
    for message in map(fields, profile.get(2, [])):
        samples.append({"stack": [location(one) for one in numbers(message, 1)],
                        "values": [signed(value) for value in numbers(message, 2)]})
    types = [value_type(data) for data in profile[1]]
    assert all(len(sample["values"]) == len(types) for sample in samples), "a sample without a value for each type"
    return {"types": types, "samples": samples, "mappings": [mapping(message) for message in mappings.values()],
            "period_type": value_type(profile[11][0]), "default": strings[number(profile, 14)],
            "time_nanos": signed(number(profile, 9)), "duration_nanos": signed(number(profile, 10)),
            "comments": [strings[one] for one in numbers(profile, 13)]}
