/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Four ways to leak in C++. site_cxx SECONDS KIND [OPTIONS], see site.h. Without tail calls, which would leave the leaking line off the stack. */
/* build: -fomit-frame-pointer -fno-optimize-sibling-calls */
#include "site.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

void *volatile site_sink;

void *churn_new(size_t size)
{
	char *block = static_cast<char *>(::operator new(size));

	*block = 1;
	return block;
}

void churn_delete(void *block)
{
	::operator delete(block);
}

} // namespace

struct Session {
	char payload[499];
};

constexpr int new_line = __LINE__ + 3;
NOINLINE static void leak_new(size_t)
{
	Session *session = new Session();

	session->payload[7] = 1;
	site_sink = session;
}

constexpr int array_line = __LINE__ + 3;
NOINLINE static void leak_array(size_t size)
{
	char *bytes = new char[size];

	memset(bytes, 1, size);
	site_sink = bytes;
}

/* Names with long values under keys that never come again. */
class Names {
public:
	static constexpr int line = __LINE__ + 3;
	NOINLINE void remember(int key, size_t size)
	{
		values[key].assign(size, 'n');
	}

private:
	std::map<int, std::string> values;
};

NOINLINE static void leak_map(size_t size)
{
	static Names names;
	static int key;

	names.remember(key++, size);
}

class Cache {
public:
	static constexpr int line = __LINE__ + 3;
	NOINLINE void add()
	{
		items.push_back(std::make_unique<Session>());
	}

private:
	std::vector<std::unique_ptr<Session>> items;
};

NOINLINE static void leak_vector(size_t)
{
	static Cache cache;

	cache.add();
}

static const struct site_kind kinds[] = {
	{ "new", "leak_new", new_line, leak_new, churn_new, churn_delete, "", "heap" },
	{ "array", "leak_array", array_line, leak_array, churn_new, churn_delete, "", "heap" },
	{ "map", "Names::remember", Names::line, leak_map, churn_new, churn_delete, "", "heap" },
	{ "unique", "Cache::add", Cache::line, leak_vector, churn_new, churn_delete, "", "heap" },
};

int main(int argc, char **argv)
{
	return site_main(argc, argv, "site_cxx", kinds, sizeof(kinds) / sizeof(*kinds));
}
