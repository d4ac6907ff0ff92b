#include "settings.h"

#include <stdint.h>
#include <string.h>

struct reader {
    const char *at;
    const char *end;
    char *problem;
};

/* printf would draw in the whole of stdio, which needs a file system. */
static bool refuse(struct reader *reader, const char *text, const char *detail, size_t length) {
    size_t size = strlen(text);
    if (length > PROBLEM_BYTES - 1 - size)
        length = PROBLEM_BYTES - 1 - size;
    memcpy(reader->problem, text, size);
    if (length > 0)
        memcpy(reader->problem + size, detail, length);
    reader->problem[size + length] = 0;
    return false;
}

static bool unexpected(struct reader *reader) {
    return refuse(reader, "the configuration of redact has to be {\"key\": text, \"columns\": {\"schema.table.column\": \"hash\" or \"null\"}}", "", 0);
}

static void skip_space(struct reader *reader) {
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) && *reader->at)
        reader->at++;
}

/* True, and behind it, if this character comes next. */
static bool accept(struct reader *reader, char expected) {
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != expected)
        return false;
    reader->at++;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse_unit(struct reader *reader, uint32_t *unit) {
    if (reader->end - reader->at < 4)
        return false;
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*reader->at++);
        if (digit < 0)
            return false;
        *unit = *unit << 4 | (uint32_t)digit;
    }
    return true;
}

/* What follows `\u`: one unit, or two that make a code point beyond the first plane. */
static bool parse_code_point(struct reader *reader, uint32_t *point) {
    uint32_t low;
    if (!parse_unit(reader, point) || (*point >= 0xdc00 && *point < 0xe000))
        return false;
    if (*point < 0xd800 || *point >= 0xe000)
        return true;
    if (reader->end - reader->at < 2 || *reader->at++ != '\\' || *reader->at++ != 'u')
        return false;
    if (!parse_unit(reader, &low) || low < 0xdc00 || low >= 0xe000)
        return false;
    *point = 0x10000 + ((*point - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

static bool append(struct text *text, char byte) {
    if (text->length == TEXT_BYTES_MAX)
        return false;
    text->bytes[text->length++] = byte;
    return true;
}

static bool append_code_point(struct text *text, uint32_t point) {
    if (point < 0x80)
        return append(text, (char)point);
    if (point < 0x800)
        return append(text, (char)(0xc0 | point >> 6)) && append(text, (char)(0x80 | (point & 0x3f)));
    if (point < 0x10000)
        return append(text, (char)(0xe0 | point >> 12)) && append(text, (char)(0x80 | (point >> 6 & 0x3f))) &&
               append(text, (char)(0x80 | (point & 0x3f)));
    return append(text, (char)(0xf0 | point >> 18)) && append(text, (char)(0x80 | (point >> 12 & 0x3f))) &&
           append(text, (char)(0x80 | (point >> 6 & 0x3f))) && append(text, (char)(0x80 | (point & 0x3f)));
}

static bool parse_escape(struct reader *reader, struct text *text) {
    static const char NAMES[] = "\"\\/bfnrt", MEANINGS[] = "\"\\/\b\f\n\r\t";
    if (reader->at == reader->end)
        return false;
    char name = *reader->at++;
    const char *known = name ? strchr(NAMES, name) : NULL;
    if (known)
        return append(text, MEANINGS[known - NAMES]);
    uint32_t point;
    return name == 'u' && parse_code_point(reader, &point) && append_code_point(text, point);
}

static bool parse_text(struct reader *reader, struct text *text) {
    text->length = 0;
    if (!accept(reader, '"'))
        return unexpected(reader);
    while (reader->at < reader->end && *reader->at != '"') {
        char byte = *reader->at++;
        if (!(byte == '\\' ? parse_escape(reader, text) : append(text, byte)))
            return text->length == TEXT_BYTES_MAX ? refuse(reader, "a text in the configuration of redact is longer than 256 bytes", "", 0)
                                                  : unexpected(reader);
    }
    return accept(reader, '"') || unexpected(reader);
}

static bool is(const struct text *text, const char *word) {
    return text->length == strlen(word) && memcmp(text->bytes, word, text->length) == 0;
}

static bool parse_rule(struct reader *reader, struct settings *settings, const struct text *column) {
    struct text action;
    if (!parse_text(reader, &action))
        return false;
    if (settings->rule_count == RULES_MAX)
        return refuse(reader, "redact takes at most 256 columns", "", 0);
    size_t dots = 0;
    for (size_t i = 0; i < column->length; i++)
        dots += column->bytes[i] == '.';
    if (dots < 2)
        return refuse(reader, "a column of redact is named schema.table.column, not ", column->bytes, column->length);
    if (!is(&action, "hash") && !is(&action, "null"))
        return refuse(reader, "redact knows `hash` and `null`, not the action of ", column->bytes, column->length);
    struct rule *rule = &settings->rules[settings->rule_count++];
    rule->column = *column;
    rule->action = is(&action, "hash") ? ACTION_HASH : ACTION_NULL;
    return true;
}

typedef bool member(struct reader *, struct settings *, const struct text *name);

static bool parse_object(struct reader *reader, struct settings *settings, member *parse) {
    struct text name;
    if (!accept(reader, '{'))
        return unexpected(reader);
    if (accept(reader, '}'))
        return true;
    do {
        if (!parse_text(reader, &name))
            return false;
        if (!accept(reader, ':'))
            return unexpected(reader);
        if (!parse(reader, settings, &name))
            return false;
    } while (accept(reader, ','));
    return accept(reader, '}') || unexpected(reader);
}

static bool parse_section(struct reader *reader, struct settings *settings, const struct text *name) {
    if (is(name, "key"))
        return parse_text(reader, &settings->key);
    if (is(name, "columns"))
        return parse_object(reader, settings, parse_rule);
    return refuse(reader, "redact is configured by `key` and `columns`, not by ", name->bytes, name->length);
}

bool settings_parse(struct settings *settings, const char *json, size_t length, char problem[PROBLEM_BYTES]) {
    struct reader reader = {json, json + length, problem};
    settings->key.length = 0;
    settings->rule_count = 0;
    if (!parse_object(&reader, settings, parse_section))
        return false;
    skip_space(&reader);
    if (reader.at != reader.end)
        return unexpected(&reader);
    if (settings->rule_count == 0)
        return refuse(&reader, "redact has no `columns`: without them it does nothing", "", 0);
    for (size_t i = 0; i < settings->rule_count; i++)
        if (settings->rules[i].action == ACTION_HASH && settings->key.length == 0)
            return refuse(&reader, "redact needs a `key`: without one a hash is found by trying likely values", "", 0);
    return true;
}
