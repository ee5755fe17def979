/* A module as small as MODULE LOAD needs it, with a command that reads and one that writes. Redis hands its functions
 * out by name, through the first word of the context, so no header of its is needed. */

#include <stddef.h>

typedef struct Context {
    int (*function_named)(const char *name, void *place);
} Context;
typedef struct String String;
typedef struct Key Key;
typedef int Command(Context *, String **, int);

enum { OK = 0, FAILED = 1, API_VERSION = 1, FOR_WRITING = 2 };

static void (*set_attributes)(Context *, const char *name, int version, int api_version);
static int (*create_command)(Context *, const char *name, Command *, const char *flags, int first, int last, int step);
static int (*wrong_arity)(Context *);
static int (*reply_with_integer)(Context *, long long);
static int (*reply_with_line)(Context *, const char *);
static Key *(*open_key)(Context *, String *name, int mode);
static int (*set_string)(Key *, String *value);
static void (*close_key)(Key *);

static const struct {
    const char *name;
    void *place;
} needed[] = {
    {"RedisModule_SetModuleAttribs", &set_attributes},
    {"RedisModule_CreateCommand", &create_command},
    {"RedisModule_WrongArity", &wrong_arity},
    {"RedisModule_ReplyWithLongLong", &reply_with_integer},
    {"RedisModule_ReplyWithSimpleString", &reply_with_line},
    {"RedisModule_OpenKey", &open_key},
    {"RedisModule_StringSet", &set_string},
    {"RedisModule_CloseKey", &close_key},
};

static long long arguments;

/* TINY.ARGUMENTS: with how many the module was loaded. */
static int tiny_arguments(Context *context, String **words, int count) {
    (void)words;
    return count == 1 ? reply_with_integer(context, arguments) : wrong_arity(context);
}

/* TINY.PUT key value */
static int tiny_put(Context *context, String **words, int count) {
    if (count != 3) {
        return wrong_arity(context);
    }
    Key *key = open_key(context, words[1], FOR_WRITING);
    set_string(key, words[2]);
    close_key(key);
    return reply_with_line(context, "PUT");
}

int RedisModule_OnLoad(Context *context, String **words, int count) {
    (void)words;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (context->function_named(needed[i].name, needed[i].place) != OK) {
            return FAILED;
        }
    }
    arguments = count;
    set_attributes(context, "tiny", 1, API_VERSION);
    if (create_command(context, "tiny.arguments", tiny_arguments, "readonly fast", 0, 0, 0) != OK) {
        return FAILED;
    }
    return create_command(context, "tiny.put", tiny_put, "write", 1, 1, 1);
}
