"""Every text of the browser's pages, in the languages that they speak, in one table.

The library page's are in ui/library_words.py, which is a part of it.
"""

from __future__ import annotations

from typing import Literal

from ui.library_words import LIBRARY

Language = Literal["en", "zh"]

# A text may hold values in braces. `NAME.one` is said instead of `NAME` where n is 1.
TABLE: dict[str, tuple[str, str]] = {
    # everywhere
    "search": ("Search", "搜索"),
    "labels": ("Labels", "标签"),
    "albums": ("Albums", "相册"),
    "duplicates": ("Duplicates", "重复照片"),
    "map": ("Map", "地图"),
    "library": ("Library", "照片库"),
    "network": ("Network", "网络"),
    "photos": ("{n:,} photos", "{n:,} 张照片"),
    "photos.one": ("1 photo", "1 张照片"),
    "missing": ("File not found", "找不到文件"),
    "cancel": ("Cancel", "取消"),
    "name": ("Name", "名称"),
    "photo": ("Photo", "照片"),
    "perhaps": ("Perhaps {label}", "可能是 {label}"),
    "open": ("Open the original", "打开原图"),
    "copy path": ("Copy its path", "复制路径"),
    "copied": ("Copied", "已复制"),
    "select": ("Select", "选择"),
    "selected": ("{n:,} selected", "已选 {n:,} 张"),
    "clear": ("Clear", "清除"),
    "distance": ("distance {distance:.2f}", "距离 {distance:.2f}"),
    "title": ("fc7: photos that look alike", "fc7：相似照片"),
    # the password, where other machines are let in
    "login.title": ("These photos are for those who know the password", "请输入密码查看照片"),
    "login.password": ("Password", "密码"),
    "login.enter": ("Enter", "进入"),
    "login.wrong": ("That was not it.", "密码不正确。"),
    "login.wait": (
        "Too many wrong passwords: try again in {seconds} seconds.",
        "密码错误次数过多，请在 {seconds} 秒后重试。",
    ),
    # an empty library
    "empty.title": ("No photos here yet", "这里还没有照片"),
    "empty.how": (
        "Choose a folder on the Library page, or index one in a terminal. Its photos appear here:",
        "请在“照片库”页面选择一个文件夹，或在终端中建立索引，照片随后会出现在这里：",
    ),
    "empty.button": ("Add a folder", "添加文件夹"),
    # labels
    "labels.title": ("What your photos show", "您的照片里有什么"),
    "labels.find": ("Find photos of", "查找内容"),
    "labels.type": ("Type a word: dog, beach, guitar …", "输入英文单词：dog、beach、guitar……"),
    "labels.seen": ("{n:,} kinds of things were recognised", "识别出 {n:,} 类内容"),
    "labels.seen.one": ("1 kind of thing was recognised", "识别出 1 类内容"),
    "labels.all": ("← All labels", "← 所有标签"),
    "labels.photos": ("{n:,} photos, the likeliest first.", "{n:,} 张照片，最可能的在前。"),
    "labels.photos.one": ("1 photo.", "1 张照片。"),
    "labels.list": ("Photos that show {label}", "有“{label}”的照片"),
    "labels.covers": ("Labels, the commonest first", "标签，最常见的在前"),
    "labels.none": ("No photo here shows {label}.", "这里没有“{label}”的照片。"),
    "labels.unknown": ("{label} is none of the things that are recognised.", "无法识别“{label}”。"),
    "labels.sure": ("{percent} % sure", "把握 {percent}%"),
    "labels.nothing": (
        "Nothing was recognised in these photos with any certainty.",
        "没有在这些照片中识别出任何内容。",
    ),
    # albums
    "albums.title": ("Albums", "相册"),
    "albums.count": ("{n:,} albums", "{n:,} 个相册"),
    "albums.count.one": ("1 album", "1 个相册"),
    "albums.covers": ("Albums, the largest first", "相册，最大的在前"),
    "albums.all": ("← All albums", "← 所有相册"),
    "albums.none": (
        "Photos that look alike can be put together into albums. Nothing happens to your files.",
        "可以把相似的照片自动整理成相册，您的文件不会有任何改动。",
    ),
    "albums.gone": (
        "That album is not there any more: it was merged into another, or grouped anew.",
        "这个相册已不存在：可能已并入其他相册或被重新整理。",
    ),
    "albums.hidden": ("Show hidden albums ({n:,})", "显示隐藏的相册（{n:,}）"),
    "albums.is hidden": ("Hidden", "已隐藏"),
    "albums.only hidden": ("All albums are hidden.", "所有相册都已隐藏。"),
    "albums.empty": ("No photo is in this album.", "这个相册里没有照片。"),
    "albums.by": ("Order", "排序"),
    "albums.by.time": ("By time", "按时间"),
    "albums.by.closeness": ("Most typical first", "最典型的在前"),
    "albums.list": ("Photos of the album {name}", "相册“{name}”的照片"),
    "albums.rename": ("Rename", "重命名"),
    "albums.rename.name": (
        "Its name (empty: named by what its photos show)",
        "名称（留空则按照片内容命名）",
    ),
    "albums.renamed": ("The album is called “{name}” now.", "相册已改名为“{name}”。"),
    "albums.merge": ("Merge", "合并"),
    "albums.merge.into": ("Put all its photos into", "把所有照片并入"),
    "albums.merged": ("Merged into “{name}”.", "已并入“{name}”。"),
    "albums.hide": ("Hide", "隐藏"),
    "albums.unhide": ("Show again", "重新显示"),
    "albums.hid": (
        "“{name}” is hidden. Its photos stay where they are.",
        "“{name}”已隐藏，照片不变。",
    ),
    "albums.unhid": ("“{name}” is listed again.", "“{name}”已重新显示。"),
    "albums.download": ("Download", "下载"),
    "albums.download.help": ("All its photos as a ZIP file", "以 ZIP 文件下载全部照片"),
    "albums.move": ("Move to …", "移动到……"),
    "albums.move.to": ("Album", "相册"),
    "albums.move.new": ("A new album", "新相册"),
    "albums.move.name": ("What shall the new album be called?", "新相册的名称？"),
    "albums.moved": ("{n:,} photos are in “{name}” now.", "{n:,} 张照片已移到“{name}”。"),
    "albums.moved.one": ("1 photo is in “{name}” now.", "1 张照片已移到“{name}”。"),
    "albums.remove": ("Take out of the album", "移出相册"),
    "albums.removed": (
        "{n:,} photos were taken out of the album. The files are untouched.",
        "已将 {n:,} 张照片移出相册，文件未改动。",
    ),
    "albums.removed.one": (
        "1 photo was taken out of the album. The file is untouched.",
        "已将 1 张照片移出相册，文件未改动。",
    ),
    "albums.stale": (
        "Photos came or went since they were grouped: group anew to sort them in.",
        "整理之后照片有增减，请重新整理。",
    ),
    "albums.group": ("Group anew", "重新整理"),
    "albums.group.first": ("Group my photos", "整理我的照片"),
    "albums.group.title": ("Group the photos", "整理照片"),
    "albums.group.safe": (
        "Albums that you named or changed stay as you left them. "
        "You see what would change before anything does.",
        "您命名或修改过的相册会保持原样。更改之前会先给您预览。",
    ),
    "albums.group.how": ("How many albums?", "要多少个相册？"),
    "albums.group.found": ("As many as the photos make", "由照片决定"),
    "albums.group.number": ("A number of mine", "由我指定"),
    "albums.group.count": ("Albums", "相册数"),
    "albums.group.size": ("Few big albums … many small ones", "少而大……多而小"),
    "albums.group.time": ("Taken at the same time belongs together", "同一时间拍摄的放在一起"),
    "albums.group.place": ("Taken at the same place belongs together", "同一地点拍摄的放在一起"),
    "albums.group.preview": ("Preview", "预览"),
    "albums.group.reading": (
        "Looking at {done:,} of {total:,} photos …",
        "正在查看 {done:,}/{total:,} 张照片……",
    ),
    "albums.group.finding": ("Finding what belongs together …", "正在寻找相似的照片……"),
    "albums.group.keep": ("Keep these albums", "采用"),
    "albums.group.drop": ("Leave everything as it is", "保持不变"),
    "albums.group.same": ("Nothing would change.", "不会有任何变化。"),
    "albums.group.out": (
        "{left:,} of {photos:,} photos would be in no album.",
        "{photos:,} 张照片中有 {left:,} 张不属于任何相册。",
    ),
    "albums.group.new": ("{n:,} new albums", "新增 {n:,} 个相册"),
    "albums.group.new.one": ("1 new album", "新增 1 个相册"),
    "albums.group.gone": ("{n:,} albums would go", "移除 {n:,} 个相册"),
    "albums.group.gone.one": ("1 album would go", "移除 1 个相册"),
    "albums.group.changed": ("{n:,} albums would change", "改变 {n:,} 个相册"),
    "albums.group.changed.one": ("1 album would change", "改变 1 个相册"),
    "albums.group.from": ("{before:,} → {after:,} photos", "{before:,} → {after:,} 张照片"),
    "albums.group.more": ("and {n:,} more", "以及另外 {n:,} 个"),
    "albums.group.old": (
        "Photos were added or removed meanwhile: look at the preview again.",
        "照片库有变化，请重新预览。",
    ),
    "albums.grouped": ("The albums are as you saw them.", "相册已更新。"),
    # network
    "network.title": ("The network that looks at your photos", "查看照片的神经网络"),
    "network.about": (
        "A neural network is a long calculation that learned from very many photos what things "
        "look like. It turns each photo into a row of numbers, and photos that look alike get "
        "rows that are close together: so fc7 finds similar photos. It also guesses what a photo "
        "shows. All of this happens on this computer.",
        "神经网络是一种从大量照片中学会辨认事物外观的计算方法。它把每张照片变成一串数字，"
        "看起来相似的照片，数字也相近，fc7 就这样找到相似的照片。它还会猜测照片里有什么。"
        "这一切都在本机完成。",
    ),
    "network.used": (
        "This library uses {network}: {weights}.",
        "本照片库使用 {network}：{weights}。",
    ),
    "network.would be used": (
        "There are no photos here yet. By default, {network} ({weights}) would look at them.",
        "这里还没有照片。默认使用 {network}（{weights}）。",
    ),
    "network.seen": ("What it sees in a photo", "它在照片里看到了什么"),
    "network.asked": ("The photo looked at: {name}", "查看的照片：{name}"),
    "network.bars": (
        "Its five best guesses, and how sure it is of each.",
        "最可能的五种内容，以及各自的把握。",
    ),
    "network.choose": ("Choose a photo to see its guesses.", "选一张照片，看看它的猜测。"),
    "network.drop": ("Drop another photo here, or choose one", "把另一张照片拖到这里，或选择一张"),
    "network.pick": ("Or take one of your photos", "或者选一张您的照片"),
    "network.reading": ("Reading the network …", "正在读取网络……"),
    "network.kernels": ("What it looks for first", "它最先寻找什么"),
    "network.kernels.about": (
        "The first layer compares every spot of a photo with these {n} patterns of {size} × {size} "
        "pixels: edges, stripes and patches of colour. Nobody drew them; they were learned.",
        "第一层把照片的每一处与这 {n} 个 {size} × {size} 像素的图案比较：边缘、条纹和色块。"
        "这些图案不是人画的，而是学来的。",
    ),
    "network.kernels.alt": (
        "The {n} patterns of the first layer of {network}, as small coloured squares",
        "{network} 第一层的 {n} 个图案，显示为彩色小方块",
    ),
    "network.weights": ("Networks and weights", "网络与权重"),
    "network.weights.about": (
        "Weights are the numbers that a network learned. Beside each: how often, of ImageNet's "
        "test photos, its first guess is right, or one of its first five.",
        "权重是网络学到的数字。旁边的百分比是在 ImageNet 测试照片上，第一个猜测正确、"
        "以及前五个猜测之一正确的比例。",
    ),
    "network.weights.source": ("From", "来源"),
    "network.weights.licence": ("Licence", "许可"),
    "network.weights.sha256": ("SHA-256", "SHA-256"),
    "network.weights.file": ("File", "文件"),
    "network.weights.away": (
        "not on this computer; downloaded when first used",
        "不在本机，首次使用时下载",
    ),
    "network.mine": ("this library", "本照片库"),
    "network.runs": ("Training runs", "训练记录"),
    "network.runs.none": (
        "No network was trained here yet. Runs appear here while they learn, if they lie in the "
        "folder “runs” of the place where fc7 ui was started.",
        "这里还没有训练过网络。启动 fc7 ui 的位置下“runs”文件夹中的训练会显示在这里。",
    ),
    "network.runs.which": ("Run", "训练"),
    "network.runs.unknown": ("There is no run “{name}” here.", "这里没有名为“{name}”的训练。"),
    "network.runs.facts": (
        "{network}, preset {preset}, {classes} classes, began with: {start}",
        "{network}，方案 {preset}，{classes} 个类别，起始权重：{start}",
    ),
    "network.runs.chance": ("random numbers", "随机数"),
    "network.runs.best": (
        "{n:,} epochs so far. Best: {percent} % of the photos that it did not learn from are named "
        "right, after epoch {epoch:,}.",
        "已完成 {n:,} 轮。最好成绩：第 {epoch:,} 轮后，未参与学习的照片中有 {percent}% 识别正确。",
    ),
    "network.runs.best.one": (
        "1 epoch so far: {percent} % of the photos that it did not learn from are named right.",
        "已完成 1 轮：未参与学习的照片中有 {percent}% 识别正确。",
    ),
    "network.runs.curves": (
        "Lower is better. Across: epochs, once through all photos each. Solid: photos that it did "
        "not learn from; dashed: those that it did.",
        "越低越好。横轴：轮数，每轮看一遍所有照片。实线：未参与学习的照片；虚线：参与学习的照片。",
    ),
    "network.runs.alt": ("Learning curves of {name}", "{name} 的学习曲线"),
    "network.runs.use": ("Use what it learned:", "使用学到的网络："),
    "network.runs.resume": ("Go on with it, if it was stopped:", "如果训练中断，可以继续："),
    "network.train": ("Train one on classes of your own", "用您自己的类别训练"),
    "network.train.about": (
        "Put photos into folders, one for each class. This begins with what the network knows "
        "already, and is the quick way:",
        "把照片按类别放进文件夹，每类一个。从已有的网络开始，较快：",
    ),
    "network.train.scratch": ("From nothing, with many photos:", "照片很多时，从头开始："),
    # search
    "search.title": ("Find photos that look alike", "查找相似的照片"),
    "search.drop": (
        "Drop a photo here, choose one, or paste one",
        "把照片拖到这里、选择或粘贴一张",
    ),
    "search.start": ("Or start from one of your {n:,} photos", "或者从您的 {n:,} 张照片中选一张"),
    "search.newest": ("Photos, newest first", "照片，最新的在前"),
    "search.gone": (
        "That photo is not in the library any more. Pick another one.",
        "这张照片已不在照片库中，请另选一张。",
    ),
    "search.forgotten": (
        "That upload is forgotten by now. Drop the photo once more.",
        "上传的照片已被清除，请再拖一次。",
    ),
    "search.moved": ("Its file is not where it was.", "文件已不在原来的位置。"),
    "search.back": ("← All photos", "← 所有照片"),
    "search.answers": ("Photos that look like this one", "与这张相似的照片"),
    "search.many": ("Photos that look like these", "与这些相似的照片"),
    "search.order": ("Most alike first.", "最相似的在前。"),
    "search.list": (
        "Photos that look like this one, most alike first",
        "与这张相似的照片，最相似的在前",
    ),
    "search.none": ("No photo passes these filters.", "没有照片符合这些条件。"),
    "search.looking": ("Looking…", "正在查找…"),
    "search.asked": ("The photo asked with: {name}", "查询的照片：{name}"),
    "search.another": ("Ask with another photo", "换一张照片查询"),
    "search.unusable": ("{name} can't be used: {reason}.", "{name} 无法使用：{reason}。"),
    "search.answer count": ("Answers", "结果数"),
    "search.distances": ("Exact distances", "精确距离"),
    "search.more": ("More like this", "更像这张"),
    "search.less": ("Less like this", "不像这张"),
    "search.liked": ("and like", "并且像"),
    "search.unliked": ("not like", "不像"),
    "search.drop example": ("Leave {name} out again", "去掉 {name}"),
    "search.looks like": ("Looks like", "看起来像"),
    "search.part": (
        "Draw on the photo to ask with a part of it",
        "在照片上拖动，用其中一部分查询",
    ),
    "search.whole": ("Ask with the whole photo", "用整张照片查询"),
    "search.filters": ("Filters", "筛选"),
    "search.filters.on": ("Filters ({n})", "筛选（{n}）"),
    "search.since": ("Taken from", "拍摄起始"),
    "search.until": ("Taken until", "拍摄截止"),
    "search.folder": ("Folder", "文件夹"),
    "search.camera": ("Camera", "相机"),
    "search.label": ("Shows", "内容"),
    "search.album": ("Album", "相册"),
    "search.any": ("Any", "不限"),
    "search.no filters": ("Clear filters", "清除筛选"),
    "search.save": ("Save as an album", "存为相册"),
    "search.saved": ("Saved as the album “{name}”.", "已存为相册“{name}”。"),
    "search.save.name": ("What shall the album be called?", "相册名称？"),
    "alike.same": ("nearly the same", "几乎相同"),
    "alike.very": ("very alike", "非常相似"),
    "alike.alike": ("alike", "相似"),
    "alike.little": ("a little alike", "略有相似"),
    "alike.hardly": ("hardly alike", "不太相似"),
    "alike.why": ("both show: {labels}", "都有：{labels}"),
    # library
    **LIBRARY,
    # map
    "map.title": ("Your photos as a landscape", "照片全景"),
    "map.about": (
        "{n:,} photos. Those that look alike lie side by side. Scroll to come nearer, drag to "
        "move, click a photo to find more like it.",
        "共 {n:,} 张照片，相似的照片彼此相邻。滚动可放大，拖动可移动，点击照片可查找相似的照片。",
    ),
    "map.about.one": ("One photo: a small landscape.", "只有 1 张照片。"),
    "map.none yet": (
        "There is no map of these photos yet. Drawing it takes {time}.",
        "这些照片还没有地图。绘制需要{time}。",
    ),
    "map.seconds": ("a few seconds", "几秒钟"),
    "map.minutes": ("some {n:,} minutes", "大约 {n:,} 分钟"),
    "map.minutes.one": ("about a minute", "大约 1 分钟"),
    "map.draw": ("Draw the map", "绘制地图"),
    "map.drawing": ("Drawing…", "正在绘制…"),
    "map.missing": (
        "{n:,} photos came since and have no place yet.",
        "之后又添加了 {n:,} 张照片，还没有位置。",
    ),
    "map.missing.one": (
        "One photo came since and has no place yet.",
        "之后又添加了 1 张照片，还没有位置。",
    ),
    "map.place": ("Place them", "放到地图上"),
    "map.outgrown": (
        "The library has more than doubled since this map was drawn: drawn anew, it shows more. "
        "All photos then get other places.",
        "绘制此地图后，照片库已增加一倍以上。重新绘制会更清楚，但所有照片的位置都会改变。",
    ),
    "map.anew": ("Draw it anew", "重新绘制"),
    "map.loading": ("Loading the map…", "正在加载地图…"),
    "map.unreachable": (
        "The map could not be loaded. Reload the page.",
        "无法加载地图，请刷新页面。",
    ),
    "map.label": ("Map of photos", "照片地图"),
    "map.keys": (
        "Arrows move, + and - come nearer and go away, 0 shows all, Enter opens the photo in the "
        "middle, x selects it, l draws a line around photos, Escape selects none",
        "方向键移动，+ 和 - 缩放，0 显示全部，回车打开中间的照片，x 选择，l 圈选，Esc 取消选择",
    ),
    "map.nearer": ("Come nearer", "放大"),
    "map.farther": ("Go farther away", "缩小"),
    "map.whole": ("Show all", "显示全部"),
    "map.lasso": ("Draw a line around photos to select them", "圈选照片"),
    "map.clear": ("Select none", "取消选择"),
    "map.colour": ("Colour by", "着色方式"),
    "map.rest": ("All others", "其他"),
    "map.by.album": ("Album", "相册"),
    "map.by.label": ("Shows", "内容"),
    "map.by.folder": ("Folder", "文件夹"),
    "map.by.year": ("Year", "年份"),
    "map.none.album": ("In no album", "不在相册中"),
    "map.none.label": ("Not recognised", "未识别"),
    "map.none.folder": ("No folder", "无文件夹"),
    "map.none.year": ("No date", "无日期"),
    # duplicates
    "duplicates.begin": ("Looking for duplicates…", "正在查找重复照片…"),
    "duplicates.descriptors": (
        "Reading what is known of {done:,} of {total:,} photos…",
        "正在读取照片信息：{done:,} / {total:,}…",
    ),
    "duplicates.photos": (
        "Looking at {done:,} of {total:,} photos…",
        "正在查看照片：{done:,} / {total:,}…",
    ),
    "duplicates.neighbours": (
        "Finding what looks alike: {done:,} of {total:,} photos…",
        "正在寻找相似的照片：{done:,} / {total:,}…",
    ),
    "duplicates.sketches": (
        "Finding what was turned or cut: {done:,} of {total:,}…",
        "正在寻找旋转或裁剪过的照片：{done:,} / {total:,}…",
    ),
    "duplicates.pairs": (
        "Comparing {done:,} of {total:,} pairs…",
        "正在比较：{done:,} / {total:,} 对…",
    ),
    "duplicates.reading": (
        "Photos are being read just now. Duplicates are looked for when that is done.",
        "正在读取照片，完成后将查找重复照片。",
    ),
    "duplicates.to run": ("See how far it is", "查看进度"),
    "duplicates.how": (
        "Mark what you can spare, and take the list with you. Nothing is moved or deleted here.",
        "标出多余的照片并导出清单。这里不会移动或删除任何文件。",
    ),
    "duplicates.kind": ("Kind", "类型"),
    "duplicates.file": ("Same file", "相同文件"),
    "duplicates.picture": ("Same picture", "同一图片"),
    "duplicates.shot": ("Similar shots", "相似照片"),
    "duplicates.no file": ("No file is here twice.", "没有重复的文件。"),
    "duplicates.no picture": (
        "No picture is here in two versions.",
        "没有同一图片的不同版本。",
    ),
    "duplicates.no shot": ("No shots are this much alike.", "没有如此相似的照片。"),
    "duplicates.proposed": ("Worth keeping", "建议保留"),
    "duplicates.spare": ("Can be spared", "多余"),
    "duplicates.none kept": ("Nothing of this group is kept", "这一组没有保留任何照片"),
    "duplicates.marked": ("{n:,} photos marked, {size:,.1f} MB", "已标记 {n:,} 张，{size:,.1f} MB"),
    "duplicates.marked.one": ("1 photo marked, {size:,.1f} MB", "已标记 1 张，{size:,.1f} MB"),
    "duplicates.export": ("Export the list", "导出清单"),
    "duplicates.export how": (
        "All pages of this kind, with your marks.",
        "此类型的所有页面，包含您的标记。",
    ),
    "duplicates.as txt": ("Paths, as text", "路径（文本）"),
    "duplicates.as csv": ("Table, as CSV", "表格（CSV）"),
    "duplicates.as json": ("All, as JSON", "全部（JSON）"),
    "duplicates.no date": ("no date", "无日期"),
    "duplicates.mirrored": ("mirrored", "镜像"),
    "duplicates.turned by 90": ("turned by 90°", "旋转 90°"),
    "duplicates.turned by 180": ("turned by 180°", "旋转 180°"),
    "duplicates.more": ("shows more than the one to keep", "画面比建议保留的更完整"),
    "duplicates.part": ("shows {percent} % of it", "只包含其 {percent} % 的画面"),
    "duplicates.why pixels": ("the one to keep has most pixels", "建议保留的像素最多"),
    "duplicates.why raw": ("the one to keep is the RAW file", "建议保留的是 RAW 文件"),
    "duplicates.why date": (
        "the one to keep knows when it was taken",
        "建议保留的带有拍摄时间",
    ),
    "duplicates.why lossless": ("the one to keep is lossless", "建议保留的是无损格式"),
    "duplicates.why folder": (
        "the one to keep is in the folder you prefer",
        "建议保留的在首选文件夹中",
    ),
    "duplicates.why bytes": ("the one to keep is the largest file", "建议保留的文件最大"),
    "duplicates.why older": ("the one to keep is the oldest file", "建议保留的文件最早"),
    "duplicates.why path": (
        "the one to keep comes first by name",
        "建议保留的按名称排在最前",
    ),
}


def say(language: Language, text: str, **values: object) -> str:
    """Say a text of the table in this language. Raises KeyError for one that isn't there."""
    if values.get("n") == 1 and f"{text}.one" in TABLE:
        text = f"{text}.one"
    return TABLE[text][language == "zh"].format(**values)


def language_of(locale: str | None) -> Language:
    """The language for a browser's locale, as zh-CN or en-GB: Chinese, else English."""
    return "zh" if (locale or "").lower().startswith("zh") else "en"
