/* cc test.c digest.c settings.c && ./a.out: the pure parts, natively. */
#include "digest.h"
#include "settings.h"

#include <stdio.h>
#include <string.h>

static int failed;

static void check(bool holds, const char *what) {
    if (!holds) {
        printf("failed: %s\n", what);
        failed = 1;
    }
}

static void check_digest(const uint8_t result[DIGEST_BYTES], const char *expected) {
    char hex[2 * DIGEST_BYTES + 1];
    for (int i = 0; i < DIGEST_BYTES; i++)
        sprintf(hex + 2 * i, "%02x", result[i]);
    check(strcmp(hex, expected) == 0, expected);
}

/* The examples of FIPS 180-4 and RFC 4231. */
static void test_digest(void) {
    uint8_t result[DIGEST_BYTES];
    digest((const uint8_t *)"", 0, result);
    check_digest(result, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest((const uint8_t *)"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, result);
    check_digest(result, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");

    struct keyed_digest keyed;
    keyed_digest_prepare(&keyed, (const uint8_t *)"Jefe", 4);
    keyed_digest(&keyed, (const uint8_t *)"what do ya want for nothing?", 28, result);
    check_digest(result, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");

    uint8_t key[131];
    memset(key, 0xaa, sizeof key);
    keyed_digest_prepare(&keyed, key, sizeof key);
    keyed_digest(&keyed, (const uint8_t *)"Test Using Larger Than Block-Size Key - Hash Key First", 54, result);
    check_digest(result, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static struct settings settings;

static bool parse(const char *json, char *problem) { return settings_parse(&settings, json, strlen(json), problem); }

static void test_settings(void) {
    char problem[PROBLEM_BYTES];
    check(parse(" {\"columns\" : {\"a.b.c\": \"hash\", \"a.b.\\u00e4\\\"\": \"null\"}, \"key\": \"k\"} ", problem), "a configuration");
    check(settings.rule_count == 2 && settings.rules[0].action == ACTION_HASH && settings.rules[1].action == ACTION_NULL, "its rules");
    check(settings.rules[1].column.length == 7 && memcmp(settings.rules[1].column.bytes, "a.b.\xc3\xa4\"", 7) == 0, "escapes");
    check(parse("{\"columns\": {\"a.b.\\ud83d\\ude00\": \"null\"}}", problem), "no key where nothing is hashed");
    check(memcmp(settings.rules[0].column.bytes, "a.b.\xf0\x9f\x98\x80", 8) == 0, "a pair of surrogates");
}

static void test_mistakes(void) {
    static const char *const CASES[][2] = {
        {"", "has to be"},
        {"[]", "has to be"},
        {"{}", "no `columns`"},
        {"{\"colums\": {}}", "not by colums"},
        {"{\"columns\": {\"a.b.c\": \"drop\"}}", "the action of a.b.c"},
        {"{\"columns\": {\"email\": \"null\"}}", "not email"},
        {"{\"columns\": {\"a.b.c\": \"hash\"}}", "needs a `key`"},
        {"{\"columns\": {\"a.b.c\": 1}}", "has to be"},
        {"{\"columns\": {\"a.b.c\": \"null\"}} x", "has to be"},
        {"{\"columns\": {\"a.b.\\ud83d\": \"null\"}}", "has to be"},
        {"{\"columns\": {\"a.b.c\": \"null\"", "has to be"},
    };
    char problem[PROBLEM_BYTES];
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        check(!parse(CASES[i][0], problem) && strstr(problem, CASES[i][1]), CASES[i][0]);

    char json[1024] = "{\"key\": \"";
    memset(json + strlen(json), 'x', 300);
    strcat(json, "\"}");
    check(!parse(json, problem) && strstr(problem, "longer than 256"), "a long text");
}

int main(void) {
    test_digest();
    test_settings();
    test_mistakes();
    printf(failed ? "c-transform: failed\n" : "c-transform: passed\n");
    return failed;
}
