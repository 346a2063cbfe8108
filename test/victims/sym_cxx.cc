// SPDX-License-Identifier: GPL-3.0-or-later
// Blocks in main -> store::cache<int>::put(int, char const*) -> store::(anonymous namespace)::wait_here(), and says "ready".
#include <cstdio>
#include <unistd.h>

volatile int after;

namespace store
{
namespace
{
__attribute__((noinline)) void wait_here()
{
	std::puts("ready");
	std::fflush(stdout);
	for (;;)
		pause();
}
} // namespace

template <class T> struct cache {
	__attribute__((noinline)) void put(T value, const char *key);
};

template <class T> void cache<T>::put(T value, const char *key)
{
	after = value + key[0];
	wait_here();
	after = 1;
}
} // namespace store

int main()
{
	store::cache<int> cache;

	cache.put(7, "key");
	after = 2;
	return after;
}
