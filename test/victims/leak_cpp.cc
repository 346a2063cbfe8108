/* SPDX-License-Identifier: GPL-3.0-or-later */
/* C++: a map in a template keeps every answer, 1 MiB/s. Names must come out demangled, lines of inlined code too. leak_cpp [SECONDS] */
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace shop {

constexpr double rate = 1024 * 1024;

template <class Item> class Basket {
public:
	static constexpr int line = __LINE__ + 3;
	__attribute__((noinline)) void remember(int seed)
	{
		items.push_back(std::make_unique<Item>(seed));
	}

private:
	std::vector<std::unique_ptr<Item>> items;
};

struct Order {
	explicit Order(int seed)
	{
		for (char &c : text)
			c = static_cast<char>(seed);
	}
	char text[2053];
};

} // namespace shop

int main(int argc, char **argv)
{
	using clock = std::chrono::steady_clock;
	const double seconds = argc > 1 ? std::atof(argv[1]) : 30;
	const auto start = clock::now();
	shop::Basket<shop::Order> basket;
	double leaked = 0, elapsed = 0;

	std::printf("{ \"victim\": \"leak_cpp\", \"expected\": [\"leak\"], \"where\": \"heap\", "
		    "\"function\": \"shop::Basket<shop::Order>::remember(int)\", \"line\": %d, \"bytes_per_s\": %.0f }\n",
		    shop::Basket<shop::Order>::line, shop::rate);
	std::fflush(stdout);
	while (elapsed < seconds) {
		for (; leaked < elapsed * shop::rate; leaked += sizeof(shop::Order))
			basket.remember(static_cast<int>(elapsed));
		std::this_thread::sleep_for(std::chrono::milliseconds(10));
		elapsed = std::chrono::duration<double>(clock::now() - start).count();
	}
	return 0;
}
