#include "tls/verify/crl_list.h"

#include "base/siphash.h"

#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Slots for each entry: the fewer, the longer the way to a free one. */
#define SLOTS_PER_ENTRY 2
/* Slots looked at for one serial number. The hash is keyed: only one number listed again and again comes to this. */
#define PROBES_MAX 1024

struct crl_list {
    struct crl_parts parts;
    struct siphash_key key;
    uint32_t *slots; /* where entries begin, from parts.whole.at; 0: free */
    size_t n_slots;
    size_t n;
    uint32_t *owners; /* where the entries begin that name another issuer than those before them, ascending */
    size_t n_owners, capacity;
    struct der critical;
};

static uint32_t offset_of(const struct crl_list *list, const uint8_t *at)
{
    return (uint32_t)(at - list->parts.whole.at);
}

static size_t home(const struct crl_list *list, const struct der *serial)
{
    uint64_t hash = siphash(&list->key, serial->at, der_length(serial));

    return (size_t)(((hash >> 32) * list->n_slots) >> 32);
}

/* What has been checked when the list was made cannot fail. */
static struct crl_entry entry_at(const struct crl_list *list, uint32_t offset)
{
    struct der in = {.at = list->parts.whole.at + offset, .end = list->parts.entries.end};
    struct crl_entry entry = {.reason = CRL_ENTRY_NO_REASON};

    if (crl_entry_next(&in, &entry) != NULL)
        abort();
    return entry;
}

static bool same(const struct der *a, const struct der *b)
{
    return der_length(a) == der_length(b) && memcmp(a->at, b->at, der_length(a)) == 0;
}

static bool are_names(const struct der *owner)
{
    const unsigned char *at = owner->at;
    GENERAL_NAMES *names = d2i_GENERAL_NAMES(NULL, &at, (long)der_length(owner));
    bool good = names != NULL && at == owner->end;

    GENERAL_NAMES_free(names);
    return good;
}

static result append_owner(struct crl_list *list, const struct crl_entry *entry, struct error *err)
{
    if (list->n_owners == list->capacity) {
        size_t capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
        uint32_t *owners = reallocarray(list->owners, capacity, sizeof(*owners));

        if (owners == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
        list->owners = owners;
        list->capacity = capacity;
    }
    list->owners[list->n_owners++] = offset_of(list, entry->whole.at);
    return ERROR_NONE;
}

static result refuse(const struct crl_list *list, size_t number, const uint8_t *at, const char *problem,
                     struct error *err)
{
    return error_set(err, ERROR_VERIFY, "entry %zu at byte %u: %s", number, offset_of(list, at), problem);
}

static result check_all(struct crl_list *list, struct error *err)
{
    struct der in = list->parts.entries, owner = {.at = NULL};

    while (!der_is_empty(&in)) {
        const uint8_t *start = in.at;
        struct crl_entry entry;
        const char *problem = list->n < CRL_ENTRIES_MAX ? crl_entry_next(&in, &entry) : "more than 5000000 entries";
        bool another = problem == NULL && entry.owner.at != NULL && (owner.at == NULL || !same(&owner, &entry.owner));

        if (another && !are_names(&entry.owner))
            problem = "its certificate issuer is not GeneralNames";
        if (problem != NULL)
            return refuse(list, list->n + 1, start, problem, err);
        if (another) {
            result r = append_owner(list, &entry, err);

            if (r != ERROR_NONE)
                return r;
            owner = entry.owner;
        }
        if (entry.critical && list->critical.at == NULL)
            list->critical = entry.whole;
        list->n++;
    }
    return ERROR_NONE;
}

static result fill(struct crl_list *list, struct error *err)
{
    struct der in = list->parts.entries;
    struct crl_entry entry;
    size_t number = 0;

    list->n_slots = SLOTS_PER_ENTRY * list->n;
    list->slots = calloc(list->n_slots + 1, sizeof(*list->slots));
    if (list->slots == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    if (RAND_bytes((unsigned char *)&list->key, sizeof(list->key)) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "no random bytes");
    while (!der_is_empty(&in)) {
        size_t slot, probes = 0;

        if (crl_entry_next(&in, &entry) != NULL)
            return error_set(err, ERROR_INTERNAL, "it has changed meanwhile");
        number++;
        for (slot = home(list, &entry.serial); list->slots[slot] != 0; slot = slot + 1 < list->n_slots ? slot + 1 : 0) {
            if (++probes > PROBES_MAX)
                return refuse(list, number, entry.whole.at, "its serial number is listed too often", err);
        }
        list->slots[slot] = offset_of(list, entry.whole.at);
    }
    return ERROR_NONE;
}

result crl_list_new(const struct crl_parts *parts, struct crl_list **ret, struct error *err)
{
    struct crl_list *list;
    result r;

    if (der_length(&parts->whole) > UINT32_MAX)
        return error_set(err, ERROR_VERIFY, "more than %u bytes", UINT32_MAX);
    list = calloc(1, sizeof(*list));
    if (list == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    list->parts = *parts;
    r = check_all(list, err);
    if (r == ERROR_NONE)
        r = fill(list, err);
    if (r != ERROR_NONE) {
        crl_list_free(list);
        return r;
    }
    *ret = list;
    return ERROR_NONE;
}

void crl_list_free(struct crl_list *list)
{
    if (list == NULL)
        return;
    free(list->slots);
    free(list->owners);
    free(list);
}

/* Which of the entries that name an issuer holds for the one at `offset`: the last one that does not come after it. */
static bool find_owner(const struct crl_list *list, uint32_t offset, struct der *ret)
{
    size_t low = 0, high = list->n_owners;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (list->owners[middle] <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return false;
    *ret = entry_at(list, list->owners[low - 1]).owner;
    return true;
}

bool crl_list_find(const struct crl_list *list, const struct der *serial, crl_list_match_fn *match, void *arg,
                   struct crl_entry *ret)
{
    size_t slot;

    if (list->n == 0 || der_length(serial) > CRL_SERIAL_MAX)
        return false;
    for (slot = home(list, serial); list->slots[slot] != 0; slot = slot + 1 < list->n_slots ? slot + 1 : 0) {
        struct crl_entry entry = entry_at(list, list->slots[slot]);
        struct der owner;

        if (!same(&entry.serial, serial) || !match(arg, find_owner(list, list->slots[slot], &owner) ? &owner : NULL))
            continue;
        *ret = entry;
        return true;
    }
    return false;
}

size_t crl_list_count(const struct crl_list *list)
{
    return list->n;
}

bool crl_list_is_indirect(const struct crl_list *list)
{
    return list->n_owners > 0;
}

const struct der *crl_list_critical(const struct crl_list *list)
{
    return list->critical.at != NULL ? &list->critical : NULL;
}
